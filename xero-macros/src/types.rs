//! Which types can travel, and how an argument's type shows that it is borrowed.

use syn::{GenericArgument, Path, PathArguments, PathSegment, ReturnType, Type, TypeParamBound, TypeReference};

use crate::{
    ast::{ArgumentKind, Output},
    errors::Errors,
};

/// The type inside parentheses and the invisible groups that a `macro_rules!` macro leaves.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        other => other,
    }
}

/// Whether it is xero's `Context`, judged by its last word, because a macro sees no more.
pub(crate) fn is_context(ty: &Type) -> bool {
    last_segment(peel(ty)).is_some_and(|segment| segment.ident == "Context" && segment.arguments.is_none())
}

/// Whether it is the standard library's `Option`, judged by its path.
pub(crate) fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = peel(ty) else { return false };
    let words: Vec<_> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let is_known = matches!(
        words.iter().map(String::as_str).collect::<Vec<_>>()[..],
        ["Option"] | ["std" | "core", "option", "Option"]
    );
    is_known && path.qself.is_none() && last_segment(peel(ty)).is_some_and(|last| type_arguments(last).len() == 1)
}

/// Reads an argument's type.
///
/// With `lifetimes_are_reported`, a named lifetime comes from generics that are an error already.
pub(crate) fn argument(ty: &Type, lifetimes_are_reported: bool, errors: &mut Errors) -> Option<ArgumentKind> {
    let errors_before = errors.count();
    let walk = Walk { place: Place::Argument, lifetimes_are_reported };
    let kind = match peel(ty) {
        Type::Reference(reference) => borrowed(reference, walk, errors),
        owned => {
            walk.check(owned, errors);
            Some(ArgumentKind::Owned(owned.clone()))
        }
    };
    kind.filter(|_| errors.count() == errors_before)
}

fn borrowed(reference: &TypeReference, walk: Walk, errors: &mut Errors) -> Option<ArgumentKind> {
    if let Some(mutability) = &reference.mutability {
        errors.push(mutability, "remove `mut`: an argument travels one way; return the changed value");
        return None;
    }
    if let Some(lifetime) = reference.lifetime.as_ref().filter(|_| !walk.lifetimes_are_reported)
        && lifetime.ident != "_"
    {
        errors.push(lifetime, "remove the lifetime: an argument is borrowed for the call");
    }
    Some(match peel(&reference.elem) {
        Type::Slice(slice) => {
            walk.check(&slice.elem, errors);
            ArgumentKind::Slice((*slice.elem).clone())
        }
        Type::Path(path) if path.path.is_ident("str") => ArgumentKind::Text,
        other => {
            walk.check(other, errors);
            ArgumentKind::Borrowed(other.clone())
        }
    })
}

/// Reads what a method returns.
pub(crate) fn output(output: &ReturnType, lifetimes_are_reported: bool, errors: &mut Errors) -> Option<Output> {
    let ReturnType::Type(_, ty) = output else { return Some(Output::Unit) };
    let ty = peel(ty);
    let errors_before = errors.count();
    let walk = Walk { place: Place::Reply, lifetimes_are_reported };
    let output = match (ty, last_segment(ty)) {
        (Type::Tuple(tuple), _) if tuple.elems.is_empty() => Some(Output::Unit),
        (_, Some(segment)) if segment.ident == "Result" => result(ty, segment, walk, errors),
        _ => {
            walk.check(ty, errors);
            Some(Output::Plain(ty.clone()))
        }
    };
    output.filter(|_| errors.count() == errors_before)
}

fn result(ty: &Type, segment: &PathSegment, walk: Walk, errors: &mut Errors) -> Option<Output> {
    match type_arguments(segment).as_slice() {
        [value, error] => {
            walk.check(value, errors);
            walk.check(error, errors);
            Some(Output::Result { value: (*value).clone(), error: Box::new((*error).clone()) })
        }
        _ => {
            errors.push(ty, "the error type must be visible: write both types, `Result<T, E>`");
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Argument,
    Reply,
}

impl Place {
    fn borrow(self) -> &'static str {
        match self {
            Self::Argument => "only a whole argument can be borrowed: own the inner value, as in `Option<String>`",
            Self::Reply => "a reply cannot borrow: return an owned type, such as `String` or `Vec<u8>`",
        }
    }

    fn opaque(self, bounds: impl IntoIterator<Item = impl std::borrow::Borrow<TypeParamBound>>) -> &'static str {
        let is_stream = bounds.into_iter().any(|bound| match bound.borrow() {
            TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|segment| segment.ident == "Stream"),
            _ => false,
        });
        match self {
            Self::Argument => "name the argument's type: both sides must know it",
            Self::Reply if is_stream => {
                "streams are not supported yet: send partial replies with `context.partial(…)` and return the last value"
            }
            Self::Reply => "name the type: both sides must know it",
        }
    }
}

/// Finds types that cannot travel, inside a type.
#[derive(Clone, Copy)]
struct Walk {
    place: Place,
    lifetimes_are_reported: bool,
}

impl Walk {
    fn check(self, ty: &Type, errors: &mut Errors) {
        match ty {
            Type::Group(group) => self.check(&group.elem, errors),
            Type::Paren(paren) => self.check(&paren.elem, errors),
            Type::Array(array) => self.check(&array.elem, errors),
            Type::Slice(slice) => self.check(&slice.elem, errors),
            Type::Tuple(tuple) => tuple.elems.iter().for_each(|elem| self.check(elem, errors)),
            Type::Path(path) => {
                if let Some(qself) = &path.qself {
                    self.check(&qself.ty, errors);
                }
                self.check_path(&path.path, errors);
            }
            Type::Reference(_) => errors.push(ty, self.place.borrow()),
            Type::ImplTrait(opaque) => errors.push(ty, self.place.opaque(&opaque.bounds)),
            Type::TraitObject(_) => {
                errors.push(ty, "a `dyn` value cannot travel: write a type with serde, such as an enum or a `String`");
            }
            Type::Infer(_) => errors.push(ty, "write the type: both sides must know it"),
            Type::Never(_) => errors.push(ty, "a call ends with a reply: write its type, or remove `-> !`"),
            Type::Ptr(_) | Type::FnPtr(_) => errors.push(ty, "an address cannot travel: write a type with serde"),
            _ => {}
        }
    }

    fn check_path(self, path: &Path, errors: &mut Errors) {
        if let Some(first) = path.segments.first().filter(|first| first.ident == "Self") {
            errors.push(&first.ident, "`Self` means another type in the client: write the type's name");
        }
        if let Some(last) = path.segments.last().filter(|last| last.ident == "Cow" && is_cow_borrowed(last)) {
            errors.push(last, self.place.borrow());
            return;
        }
        for argument in path.segments.iter().flat_map(generic_arguments) {
            match argument {
                GenericArgument::Type(ty) => self.check(ty, errors),
                GenericArgument::AssocType(assoc) => self.check(&assoc.ty, errors),
                GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" && !self.lifetimes_are_reported => {
                    errors.push(lifetime, self.place.borrow());
                }
                _ => {}
            }
        }
    }
}

/// `Cow<str>` hides a lifetime. `Cow<'static, str>` and `Cow<'a, str>` show theirs.
fn is_cow_borrowed(segment: &PathSegment) -> bool {
    !generic_arguments(segment).any(|argument| matches!(argument, GenericArgument::Lifetime(_)))
}

pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let types = generic_arguments(segment).map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect::<Option<_>>().unwrap_or_default()
}

fn generic_arguments(segment: &PathSegment) -> impl Iterator<Item = &GenericArgument> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten()
}

/// Whether a function that is not `async` returns a future, judged by its type's name.
pub(crate) fn is_future(output: &ReturnType) -> bool {
    let ReturnType::Type(_, ty) = output else { return false };
    match peel(ty) {
        Type::ImplTrait(_) => true,
        ty => last_segment(ty).is_some_and(|segment| {
            let name = segment.ident.to_string();
            name == "Pin" || name == "Ready" || name.ends_with("Future") || name.ends_with("Fut")
        }),
    }
}
