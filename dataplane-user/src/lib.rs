//! Adit's agent and command-line tool, as a library.
