//! [`Object`]: what changes, repairs, conflicts and problems refer to; and the macros that list all kinds of
//! objects.

use std::fmt;

use super::Object;
use crate::net::Namespace;

/// An object and its network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object.
    pub object: Object,
}

impl Object {
    /// The object in a namespace; `None`: the agent's own.
    #[must_use]
    pub fn at(self, namespace: Option<Namespace>) -> Located {
        Located {
            namespace,
            object: self,
        }
    }
}

impl From<Object> for Located {
    /// In the agent's own namespace.
    fn from(object: Object) -> Located {
        object.at(None)
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        self.object.fmt(f)
    }
}

/// Defines [`Object`] and `ObjectKind` from one list. Each kind has the fields that identify an object, a
/// stable name, the kind under which its repairs are counted, and the text of its objects.
macro_rules! objects {
    ($($(#[$doc:meta])* $kind:ident $(($($field:ident: $type:ty),*))?, $name:literal, repair $repair:literal, $text:literal;)*) => {
        /// The identity of an object of kernel state, without its value.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Object {
            $($(#[$doc])* $kind $(($($type),*))?,)*
        }

        /// The kind of an object; its names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ObjectKind {
            $($(#[$doc])* $kind,)*
        }

        impl ObjectKind {
            /// All of them.
            pub const ALL: &[ObjectKind] = &[$(ObjectKind::$kind),*];

            /// Its name in `adit plan -o json`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(ObjectKind::$kind => $name,)*
                }
            }

            /// The kind under which its repairs are counted.
            #[must_use]
            pub fn repair(self) -> &'static str {
                match self {
                    $(ObjectKind::$kind => $repair,)*
                }
            }
        }

        impl Object {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> ObjectKind {
                match self {
                    $(Object::$kind { .. } => ObjectKind::$kind,)*
                }
            }
        }

        impl std::fmt::Display for Object {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Object::$kind $(($($field),*))? => write!(f, $text),)*
                }
            }
        }
    };
}

/// Defines the changes of one adapter from a list of their types.
macro_rules! changes {
    ($(#[$doc:meta])* $adapter:ident of $action:ident: $($(#[$kind_doc:meta])* $kind:ident($type:ty),)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $adapter {
            $($(#[$kind_doc])* $kind($type),)*
        }

        impl $adapter {
            pub(crate) fn operation(&self) -> &dyn $crate::model::change::Operation {
                match self {
                    $($adapter::$kind(change) => change,)*
                }
            }
        }

        impl std::fmt::Display for $adapter {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.operation().fmt(f)
            }
        }

        impl From<$adapter> for Action {
            fn from(change: $adapter) -> Action {
                Action::$action(change)
            }
        }

        $(impl From<$type> for $adapter {
            fn from(change: $type) -> $adapter {
                $adapter::$kind(change)
            }
        }

        impl From<$type> for Action {
            fn from(change: $type) -> Action {
                Action::$action(change.into())
            }
        })*
    };
}

pub(crate) use {changes, objects};
