//! What changes, repairs, conflicts and problems are about; and what makes the lists of all kinds.

use std::fmt;

use super::Object;
use crate::net::Namespace;

/// An object, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object.
    pub object: Object,
}

impl Object {
    /// Where it is.
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

/// Makes [`Object`] and `ObjectKind` of one list: of each kind what tells its objects apart, its stable name, what repairs of it are counted
/// as, and what its objects are called.
macro_rules! objects {
    ($($(#[$doc:meta])* $kind:ident $(($($field:ident: $type:ty),*))?, $name:literal, repair $repair:literal, $text:literal;)*) => {
        /// An object of kernel state: what it is called, whatever it is like now.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Object {
            $($(#[$doc])* $kind $(($($type),*))?,)*
        }

        /// What kind of object something is; its names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ObjectKind {
            $($(#[$doc])* $kind,)*
        }

        impl ObjectKind {
            /// All of them.
            pub const ALL: &[ObjectKind] = &[$(ObjectKind::$kind),*];

            /// The name that `adit plan -o json` has for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(ObjectKind::$kind => $name,)*
                }
            }

            /// What its repairs are counted as.
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

/// Makes the changes of one adapter of a list of their types.
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
