//! BPF: the object, its maps and its programs.

pub mod object;
