//! Decodes a tree into a struct by Go's rules.

use super::{mismatch::Mismatch, tree::Tree};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor, value::StrDeserializer,
};

pub(super) struct Reader<'a>(pub(super) &'a Tree);

/// Requests for one kind of value. `null` gives Go's zero value of that kind; the visitor decides
/// about everything else.
macro_rules! zero_for_null {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match self.0 {
                Tree::Null => visitor.$visit($zero),
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Tree::String(value) => visitor.visit_borrowed_str(value),
            Tree::Array(values) => visitor.visit_seq(Elements(values.iter())),
            Tree::Object(entries) => visitor.visit_map(Entries::all(entries)),
            Tree::Unreadable(why) => Err(Mismatch::custom(why)),
        }
    }

    zero_for_null! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0),
        deserialize_i16 => visit_i64(0),
        deserialize_i32 => visit_i64(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0),
        deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
        deserialize_seq => visit_seq(Elements([].iter())),
        deserialize_map => visit_map(Entries::default()),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Tree::Null => visitor.visit_map(Entries::default()),
            Tree::Object(entries) => visitor.visit_map(Entries::of_struct(entries, fields)),
            // a derived struct would accept its fields in order
            Tree::Array(_) => Err(Mismatch::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Tree::String(text) => {
                let variant: StrDeserializer<'_, Mismatch> = text.as_str().into_deserializer();
                variant.deserialize_enum(name, variants, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Elements<'a>(std::slice::Iter<'a, Tree>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let element = self.0.next();
        element
            .map(|tree| seed.deserialize(Reader(tree)))
            .transpose()
    }
}

/// The entries of an object, each under the name that the struct or map gives it.
#[derive(Default)]
struct Entries<'a> {
    rest: std::vec::IntoIter<(&'a str, &'a Tree)>,
    value: Option<(&'a str, &'a Tree)>,
}

impl<'a> Entries<'a> {
    fn all(entries: &'a [(String, Tree)]) -> Self {
        let entries = entries.iter().map(|(key, tree)| (key.as_str(), tree));
        Entries::new(entries.collect())
    }

    /// Those that fill a field, under the field's name; at most one each.
    fn of_struct(entries: &'a [(String, Tree)], fields: &'static [&'static str]) -> Self {
        let mut filled: Vec<(&str, &Tree)> = Vec::with_capacity(fields.len());
        for (key, tree) in entries {
            let Some(field) = field_for(key, fields) else {
                continue;
            };
            if *tree == Tree::Null {
                continue;
            }
            match filled.iter_mut().find(|(name, _)| *name == field) {
                Some((_, earlier)) => *earlier = tree,
                None => filled.push((field, tree)),
            }
        }
        Entries::new(filled)
    }

    fn new(entries: Vec<(&'a str, &'a Tree)>) -> Self {
        Entries {
            rest: entries.into_iter(),
            value: None,
        }
    }
}

/// The field of exactly that name, else the first that differs only in case.
fn field_for(key: &str, fields: &[&'static str]) -> Option<&'static str> {
    let exact = fields.iter().find(|field| **field == key);
    let folded = || fields.iter().find(|field| is_key(key, field));
    exact.or_else(folded).copied()
}

/// Whether both differ at most in case.
pub(super) fn is_key(key: &str, field: &str) -> bool {
    key.chars().map(fold).eq(field.chars().map(fold))
}

/// Unicode's simple folding, as far as it ends in ASCII: two letters beyond ASCII do.
fn fold(c: char) -> char {
    match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        _ => c.to_ascii_lowercase(),
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        self.value = self.rest.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Mismatch> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let (key, tree) = self.value.take().unwrap_or(("", &Tree::Null));
        seed.deserialize(Reader(tree))
            .map_err(|mismatch| mismatch.under(key))
    }
}
