//! Whether the second reader sees the same tree as the guard, value by value.
//!
//! What was checked is the guard's tree, what is used comes from the second reader. If the
//! two could differ, a text could be checked as one thing and used as another.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::tree::{Entry, Node, Value};

/// Reads a document and compares it with a tree. Its value says whether there was one.
pub(super) struct Document<'n, 'a>(pub(super) Option<&'n Node<'a>>);

struct Same<'n, 'a>(&'n Node<'a>);

struct Text<'n>(&'n str);

struct Items<'n, 'a>(&'n [Node<'a>]);

struct Entries<'n, 'a>(&'n [Entry<'a>]);

const DIFFERENT: &str = "the two readers see different values";

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        let node = self
            .0
            .ok_or_else(|| Error::custom("a document that the first did not see"))?;
        Same(node).deserialize(from).map(|()| true)
    }
}

impl<'de> DeserializeSeed<'de> for Same<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match &self.0.value {
            Value::Scalar(scalar) => from.deserialize_str(Text(&scalar.text)),
            Value::List(items) => from.deserialize_seq(Items(items)),
            Value::Map(entries) => from.deserialize_map(Entries(entries)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text == self.0 {
            Ok(())
        } else {
            Err(E::custom(DIFFERENT))
        }
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for node in self.0 {
            let seen = items.next_element_seed(Same(node))?;
            seen.ok_or_else(|| Error::custom(DIFFERENT))?;
        }
        match items.next_element::<serde::de::IgnoredAny>()? {
            Some(_) => Err(Error::custom(DIFFERENT)),
            None => Ok(()),
        }
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        for entry in self.0 {
            let seen = map.next_key_seed(Text(&entry.key.text))?;
            seen.ok_or_else(|| Error::custom(DIFFERENT))?;
            map.next_value_seed(Same(&entry.node))?;
        }
        match map.next_key::<serde::de::IgnoredAny>()? {
            Some(_) => Err(Error::custom(DIFFERENT)),
            None => Ok(()),
        }
    }
}
