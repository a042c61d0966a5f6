//! Types that may hold bytes: options, results, lists and tuples, each written as serde writes it.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Form, Own, Ref, Wire, WireOwned};

/// The form of a marker whose values need a wrapper.
macro_rules! wrapped {
    (impl[$($parameter:ident),*] Form for $marker:ty) => {
        impl<$($parameter),*> Form for $marker {
            type Lent<'a, T: ?Sized + 'a> = Ref<'a, Self, T>;
            type Owned<T> = Own<Self, T>;

            fn lend<T: ?Sized>(value: &T) -> Ref<'_, Self, T> {
                Ref::new(value)
            }

            fn borrow<T>(owned: &Own<Self, T>) -> &T {
                &owned.0
            }

            fn value<T>(owned: Own<Self, T>) -> T {
                owned.0
            }
        }
    };
}

pub(super) use wrapped;

/// `Option<T>`, with the marker of `T`.
#[derive(Debug)]
pub struct Opt<M>(PhantomData<fn() -> M>);

wrapped!(impl[M] Form for Opt<M>);

impl<M: Wire<T>, T> Wire<Option<T>> for Opt<M> {
    fn write<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Ref::<M, T>::new).serialize(serializer)
    }
}

impl<M: WireOwned<T>, T> WireOwned<Option<T>> for Opt<M> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let value = Option::<Own<M, T>>::deserialize(deserializer)?;
        Ok(value.map(|value| value.0))
    }
}

/// `Result<T, E>` inside another type, with the markers of `T` and `E`.
#[derive(Debug)]
pub struct Res<M, N>(PhantomData<fn() -> (M, N)>);

wrapped!(impl[M, N] Form for Res<M, N>);

impl<M: Wire<T>, N: Wire<E>, T, E> Wire<Result<T, E>> for Res<M, N> {
    fn write<S: Serializer>(value: &Result<T, E>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Ref::<M, T>::new).map_err(Ref::<N, E>::new).serialize(serializer)
    }
}

impl<M: WireOwned<T>, N: WireOwned<E>, T, E> WireOwned<Result<T, E>> for Res<M, N> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<T, E>, D::Error> {
        let result = Result::<Own<M, T>, Own<N, E>>::deserialize(deserializer)?;
        Ok(result.map(|value| value.0).map_err(|error| error.0))
    }
}

/// `Vec<T>` and `[T]`, with the marker of `T`.
#[derive(Debug)]
pub struct List<M>(PhantomData<fn() -> M>);

wrapped!(impl[M] Form for List<M>);

impl<M: Wire<T>, T> Wire<[T]> for List<M> {
    fn write<S: Serializer>(value: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(Ref::<M, T>::new))
    }
}

impl<M: Wire<T>, T> Wire<Vec<T>> for List<M> {
    fn write<S: Serializer>(value: &Vec<T>, serializer: S) -> Result<S::Ok, S::Error> {
        <Self as Wire<[T]>>::write(value, serializer)
    }
}

impl<M: WireOwned<T>, T> WireOwned<Vec<T>> for List<M> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        let values = Vec::<Own<M, T>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.0).collect())
    }
}

/// Tuples of markers, for tuples of values.
macro_rules! tuples {
    ($($($marker:ident $value:ident $field:tt),+;)*) => {
        $(
            wrapped!(impl[$($marker),+] Form for ($($marker,)+));

            impl<$($marker: Wire<$value>, $value),+> Wire<($($value,)+)> for ($($marker,)+) {
                fn write<Out: Serializer>(value: &($($value,)+), serializer: Out) -> Result<Out::Ok, Out::Error> {
                    ($(Ref::<$marker, $value>::new(&value.$field),)+).serialize(serializer)
                }
            }

            impl<$($marker: WireOwned<$value>, $value),+> WireOwned<($($value,)+)> for ($($marker,)+) {
                fn read<'de, In: Deserializer<'de>>(deserializer: In) -> Result<($($value,)+), In::Error> {
                    let values = <($(Own<$marker, $value>,)+)>::deserialize(deserializer)?;
                    Ok(($(values.$field.0,)+))
                }
            }
        )*
    };
}

tuples! {
    A TA 0;
    A TA 0, B TB 1;
    A TA 0, B TB 1, C TC 2;
    A TA 0, B TB 1, C TC 2, D TD 3;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6, H TH 7;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6, H TH 7, I TI 8;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6, H TH 7, I TI 8, J TJ 9;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6, H TH 7, I TI 8, J TJ 9, K TK 10;
    A TA 0, B TB 1, C TC 2, D TD 3, E TE 4, F TF 5, G TG 6, H TH 7, I TI 8, J TJ 9, K TK 10, L TL 11;
}
