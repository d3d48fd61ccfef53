//! Network namespaces, as users name them.

use std::fmt;

/// A network namespace other than that of the agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// By its name below `/run/netns` (`ip netns`).
    Name(String),
    /// By the path of a file that refers to it.
    Path(String),
    /// That of a process, by its pid.
    Pid(u32),
    /// That of a container, by its runtime and name.
    Container {
        /// Its runtime.
        runtime: Runtime,
        /// Its name.
        name: String,
    },
}

/// A container runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
    /// crun.
    Crun,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Runtime; 3] = [Runtime::Podman, Runtime::Docker, Runtime::Crun];

    /// The name of the runtime and of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Podman => "podman",
            Runtime::Docker => "docker",
            Runtime::Crun => "crun",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Namespace::Name(name) => write!(f, "netns {name}"),
            Namespace::Path(path) => write!(f, "netns {path}"),
            Namespace::Pid(pid) => write!(f, "netns of process {pid}"),
            Namespace::Container { runtime, name } => {
                write!(f, "netns of {} container {name}", runtime.name())
            }
        }
    }
}
