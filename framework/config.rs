//! The means of settings: fields from the environment, secrets, and problems that are reported all at once.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::error::{Error, Kind, Result};

/// Every problem found, reported together.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds one: a sentence that names the setting and the value.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Adds one unless `fine`.
    pub fn check(&mut self, fine: bool, problem: impl FnOnce() -> String) {
        if !fine {
            self.add(problem());
        }
    }

    /// # Errors
    /// Kind `Config` with all of them, if there are any.
    pub fn into_result(self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Kind::Config, self.0.join("; "))),
        }
    }
}

/// Environment variables on their way into fields.
pub struct Fields<'a> {
    prefix: &'a str,
    path: String,
    values: BTreeMap<String, String>,
    problems: Problems,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(prefix: &'a str, values: BTreeMap<String, String>) -> Self {
        Self { prefix, path: String::new(), values, problems: Problems::default() }
    }

    pub(crate) fn part(&mut self, name: &str, read: impl FnOnce(&mut Self)) {
        self.path = format!("{name}_");
        read(self);
    }

    /// Reads one field if its variable is set.
    pub fn field<T: FromSetting>(&mut self, name: &str, into: &mut T) {
        let variable = format!("{}{}", self.path, name.to_ascii_uppercase());
        let Some(text) = self.values.remove(&variable) else {
            return;
        };
        match T::from_setting(&text) {
            Ok(value) => *into = value,
            Err(expected) if T::SECRET => {
                self.problems.add(format!("{}{variable}: expected {expected}", self.prefix));
            }
            Err(expected) => {
                self.problems.add(format!("{}{variable}={text:?}: expected {expected}", self.prefix));
            }
        }
    }

    pub(crate) fn finish(mut self) -> Problems {
        for name in self.values.keys() {
            self.problems.add(format!("unknown setting {}{name}", self.prefix));
        }
        self.problems
    }
}

/// A value that can stand in an environment variable.
pub trait FromSetting: Sized {
    /// Its text is never shown.
    const SECRET: bool = false;

    /// # Errors
    /// What was expected instead.
    fn from_setting(text: &str) -> Result<Self, String>;
}

macro_rules! parsed {
    ($($type:ty: $expected:literal,)+) => {
        $(impl FromSetting for $type {
            fn from_setting(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| $expected.to_owned())
            }
        })+
    };
}

parsed! {
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    i32: "a whole number",
    usize: "a whole number",
    bool: "true or false",
    String: "text",
}

impl FromSetting for Duration {
    fn from_setting(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text.trim()).map_err(|_| "a duration such as 250ms, 15s or 5m".to_owned())
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn from_setting(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() { Ok(None) } else { T::from_setting(text).map(Some) }
    }
}

/// Text that never appears in `Debug` or logs: connection URLs, passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "(not set)" } else { "(hidden)" })
    }
}

impl FromSetting for Secret {
    const SECRET: bool = true;

    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}
