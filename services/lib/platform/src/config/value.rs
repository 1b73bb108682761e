//! The types of settings: how each is read from the file and from the environment, and written for the reference.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use toml::Value;

use super::{Secret, settings::Setting};

fn expected(what: &str, value: &impl std::fmt::Display) -> String {
    format!("{value} is not {what}")
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| expected(what, value))
}

/// As a basic string of TOML.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

impl Setting for bool {
    fn from_file(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected("true or false", value))
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| expected("true or false", &text))
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

/// Whole numbers: not negative, and no larger than the type.
macro_rules! whole {
    ($($type:ty),*) => { $(
        impl Setting for $type {
            fn from_file(value: &Value) -> Result<Self, String> {
                let number = value.as_integer().and_then(|number| Self::try_from(number).ok());
                number.ok_or_else(|| expected(concat!("a whole number from 0 to ", stringify!($type), "'s largest"), value))
            }

            fn from_environment(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| expected(concat!("a whole number from 0 to ", stringify!($type), "'s largest"), &text))
            }

            fn render(&self) -> String {
                self.to_string()
            }
        }
    )* };
}
whole!(u32, u64, usize);

impl Setting for f64 {
    fn from_file(value: &Value) -> Result<Self, String> {
        let whole = value.as_integer().and_then(|number| u32::try_from(number).ok()).map(Self::from);
        value.as_float().or(whole).ok_or_else(|| expected("a number", value))
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| expected("a number", &text))
    }

    fn render(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for String {
    fn from_file(value: &Value) -> Result<Self, String> {
        text(value, "a text").map(str::to_owned)
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn render(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    fn from_file(value: &Value) -> Result<Self, String> {
        text(value, "a path").map(Self::from)
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn render(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for SocketAddr {
    fn from_file(value: &Value) -> Result<Self, String> {
        Self::from_environment(text(value, "an address and a port")?)
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is not an address and a port, like 127.0.0.1:8008"))
    }

    fn render(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for Secret {
    // The value stays out of the message.
    fn from_file(value: &Value) -> Result<Self, String> {
        value.as_str().map(Self::from).ok_or_else(|| "not a text".to_owned())
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn render(&self) -> String {
        quoted(self.expose())
    }
}

impl Setting for Vec<IpAddr> {
    fn from_file(value: &Value) -> Result<Self, String> {
        let list = value.as_array().ok_or_else(|| expected("a list of addresses", value))?;
        list.iter().map(|address| ip(text(address, "an address")?)).collect()
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(ip).collect()
    }

    fn render(&self) -> String {
        let list: Vec<String> = self.iter().map(|address| quoted(&address.to_string())).collect();
        format!("[{}]", list.join(", "))
    }
}

impl Setting for Vec<String> {
    fn from_file(value: &Value) -> Result<Self, String> {
        let list = value.as_array().ok_or_else(|| expected("a list of texts", value))?;
        list.iter().map(|item| text(item, "a text").map(str::to_owned)).collect()
    }

    fn from_environment(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }

    fn render(&self) -> String {
        let list: Vec<String> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", list.join(", "))
    }
}

/// Numbers by name.
impl Setting for BTreeMap<String, u32> {
    fn from_file(value: &Value) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| expected("a table of whole numbers", value))?;
        table.iter().map(|(name, number)| Ok((name.clone(), u32::from_file(number)?))).collect()
    }

    /// As in the file, with or without the braces.
    fn from_environment(text: &str) -> Result<Self, String> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let table = format!("x = {{{inner}}}").parse::<toml::Table>();
        let table = table.map_err(|_| expected("a list like dc1=3,dc2=3", &text))?;
        Self::from_file(table.get("x").unwrap_or(&Value::Boolean(false)))
    }

    fn render(&self) -> String {
        let list: Vec<String> = self.iter().map(|(name, number)| format!("{} = {number}", quoted(name))).collect();
        format!("{{ {} }}", list.join(", "))
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address, like 10.0.0.1"))
}
