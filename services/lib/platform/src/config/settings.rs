//! What a section of the file is: its keys, their defaults and what they mean stand in one place, beside the fields.

/// A key of the file, as the reference prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its path, with dots.
    pub(super) path: String,
    /// Its default, as TOML.
    pub(super) default: String,
    /// What it means, line by line.
    pub(super) doc: Vec<&'static str>,
}

/// A value that can't be: which key, and why.
pub(super) type Fault = (&'static str, String);

/// A value as it was given.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// In the file.
    File(toml::Value),
    /// In the environment.
    Environment(String),
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// From the file.
    fn from_file(value: &toml::Value) -> Result<Self, String>;
    /// From the environment.
    fn from_environment(text: &str) -> Result<Self, String>;
    /// As the file would have it.
    fn render(&self) -> String;

    /// From wherever it was given.
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::File(value) => Self::from_file(value),
            Raw::Environment(text) => Self::from_environment(text),
        }
    }
}

/// Checks beyond the types: each section has its own.
pub(super) trait Check {
    /// Every value that can't be.
    fn faults(&self) -> Vec<Fault>;
}

/// A section: keys, and sections in it.
pub(super) trait Section: Default {
    /// Adds its keys, and those of the sections in it.
    fn keys(prefix: &str, out: &mut Vec<Key>);
    /// Sets the key of this path; whether there is one, and whether the value fits.
    fn set(&mut self, path: &str, raw: &Raw) -> Option<Result<(), String>>;
    /// Every value that can't be, with the key's whole path.
    fn all_faults(&self, prefix: &str, out: &mut Vec<String>);
}

/// Declares a section: a struct with its defaults, and [`Section`] for it. Sections within it stand last, in `@sections`.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])* $key:ident : $type:ty = $default:expr; )*
            $( @ sections { $( $(#[doc = $inner_doc:literal])* $inner:ident : $inner_type:ty; )* } )?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $key: $type, )*
            $( $( $(#[doc = $inner_doc])* pub $inner: $inner_type, )* )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* $( $($inner: <$inner_type>::default(),)* )? }
            }
        }

        impl $crate::config::settings::Section for $name {
            fn keys(prefix: &str, out: &mut Vec<$crate::config::settings::Key>) {
                let default = Self::default();
                $(
                    out.push($crate::config::settings::Key {
                        path: format!("{prefix}{}", stringify!($key)),
                        default: $crate::config::settings::Setting::render(&default.$key),
                        doc: vec![$($doc.trim()),*],
                    });
                )*
                $( $( <$inner_type>::keys(&format!("{prefix}{}.", stringify!($inner)), out); )* )?
                let _ = (&default, prefix, out);
            }

            fn set(&mut self, path: &str, raw: &$crate::config::settings::Raw) -> Option<Result<(), String>> {
                $(
                    if path == stringify!($key) {
                        let read = $crate::config::settings::Setting::read(raw);
                        return Some(read.map(|value| self.$key = value));
                    }
                )*
                $( $(
                    if let Some(rest) = path.strip_prefix(concat!(stringify!($inner), ".")) {
                        return self.$inner.set(rest, raw);
                    }
                )* )?
                let _ = (path, raw);
                None
            }

            fn all_faults(&self, prefix: &str, out: &mut Vec<String>) {
                let own = $crate::config::settings::Check::faults(self);
                out.extend(own.into_iter().map(|(key, fault)| format!("{prefix}{key}: {fault}")));
                $( $( self.$inner.all_faults(&format!("{prefix}{}.", stringify!($inner)), out); )* )?
            }
        }
    };
}

/// Declares a setting that is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        pub enum $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl $crate::config::settings::Setting for $name {
            fn from_file(value: &toml::Value) -> Result<Self, String> {
                match value.as_str() {
                    Some(text) => Self::from_environment(text),
                    None => Err(format!("{value} is not one of {}", [$(concat!("\"", $word, "\"")),*].join(", "))),
                }
            }

            fn from_environment(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok(Self::$variant), )*
                    other => Err(format!("{other:?} is not one of {}", [$(concat!("\"", $word, "\"")),*].join(", "))),
                }
            }

            fn render(&self) -> String {
                match self { $( Self::$variant => concat!("\"", $word, "\"").to_owned(), )* }
            }
        }
    };
}

pub(super) use {choice, section};
