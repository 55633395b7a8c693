//! A JSON text with its keys in order, repeated ones included: the order decides which one wins.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Number, Value, value::RawValue};
use std::fmt;

/// How deep values that are read may be nested. Go's limit is 10,000, for unknown keys too; those
/// are skipped without recursion here.
const MAX_DEPTH: usize = 100;
/// How much of a value an error quotes, in characters.
const MAX_QUOTED: usize = 40;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
    /// It cannot be represented; the text says why.
    Unreadable(String),
}

impl From<Value> for Tree {
    fn from(value: Value) -> Tree {
        match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(value),
            Value::Number(value) => Tree::Number(value),
            Value::String(value) => Tree::String(value),
            Value::Array(values) => Tree::Array(values.into_iter().map(Tree::from).collect()),
            Value::Object(map) => {
                Tree::Object(map.into_iter().map(|(k, v)| (k, Tree::from(v))).collect())
            }
        }
    }
}

impl Tree {
    /// Parses a whole text. A value that has JSON's syntax but cannot be represented is an error
    /// only for who reads it.
    pub(super) fn parse(text: &str) -> serde_json::Result<Tree> {
        Tree::of(serde_json::from_str(text)?, 0)
    }

    fn of(raw: &RawValue, depth: usize) -> serde_json::Result<Tree> {
        let text = raw.get();
        let is_nested = text.starts_with(['[', '{']);
        if is_nested && depth == MAX_DEPTH {
            return Ok(Tree::Unreadable(format!(
                "a value is nested more than {MAX_DEPTH} levels deep"
            )));
        }
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(text)?;
                let (keys, raw): (Vec<String>, Vec<&RawValue>) = entries.into_iter().unzip();
                let values = Tree::all(raw, depth)?;
                Tree::Object(keys.into_iter().zip(values).collect())
            }
            Some(b'[') => Tree::Array(Tree::all(serde_json::from_str(text)?, depth)?),
            _ => serde_json::from_str::<Value>(text)
                .map_or_else(|_| Tree::unreadable(text), Tree::from),
        })
    }

    fn all(values: Vec<&RawValue>, depth: usize) -> serde_json::Result<Vec<Tree>> {
        let values = values.into_iter();
        values.map(|raw| Tree::of(raw, depth + 1)).collect()
    }

    /// A number beyond float64, or a text with half of a surrogate pair.
    fn unreadable(text: &str) -> Tree {
        let start: String = text.chars().take(MAX_QUOTED).collect();
        Tree::Unreadable(format!("the value {start} cannot be represented"))
    }

    /// Removes the entry at `keys` of nested objects, or the outermost of them that holds no
    /// object. False if there is none.
    pub(super) fn remove(&mut self, keys: &[&str], is_key: fn(&str, &str) -> bool) -> bool {
        let (Tree::Object(entries), Some((first, rest))) = (self, keys.split_first()) else {
            return false;
        };
        let mut removed = false;
        for (_, value) in entries.iter_mut().filter(|(key, _)| is_key(key, first)) {
            removed |= value.remove(rest, is_key);
        }
        let before = entries.len();
        if !removed {
            entries.retain(|(key, _)| !is_key(key, first));
        }
        removed || entries.len() < before
    }
}

/// The entries of an object, whose values are not parsed.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor).map(Entries)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
