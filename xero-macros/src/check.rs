//! Rules across the methods of a service; emits nothing.

use crate::{
    ast::Service,
    errors::Errors,
    options::{NAME_BYTES_MAX, too_long},
    signature::plain,
};

/// Names that generated code needs for itself, and where.
const TAKEN: [(&str, &str); 5] = [
    ("new", "the client's constructor"),
    ("with_codec", "a function of the client"),
    ("wait_for_worker", "a function of the client"),
    ("into_service", "a function that is added to the trait"),
    ("__descriptor", "a function of the client"),
];

/// Checks a service whose methods are sound by themselves.
pub(crate) fn service(service: &Service, errors: &mut Errors) {
    trait_name(service, errors);
    for (index, method) in service.methods.iter().enumerate() {
        let (ident, name) = (&method.signature.ident, method.wire_name());
        if let Some((name, what)) = TAKEN.iter().find(|(taken, _)| name == *taken) {
            errors.push(ident, format_args!("`{name}` is {what}: give the method another name"));
        }
        if name.len() > NAME_BYTES_MAX {
            errors.push(ident, too_long(name.len()));
        }
        let earlier = service.methods.iter().take(index);
        // Of two methods under `cfg` one may be absent: the compiler knows better.
        if !method.is_conditional() && earlier.filter(|m| !m.is_conditional()).any(|m| m.wire_name() == name) {
            errors.push(ident, format_args!("there is a method `{name}` already: give this one another name"));
        }
    }
}

/// The trait's name is the service's, unless an option says otherwise.
fn trait_name(service: &Service, errors: &mut Errors) {
    let name = plain(&service.item.ident);
    if name == service.options.name && name.len() > NAME_BYTES_MAX {
        errors.push(&service.item.ident, too_long(name.len()));
    }
}
