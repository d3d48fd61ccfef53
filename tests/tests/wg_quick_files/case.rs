//! The files of the corpus.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::text;

/// A file and the name that it has in the corpus.
pub(crate) struct Case {
    pub(crate) name: String,
    bytes: Vec<u8>,
}

/// The files of a directory of the corpus.
pub(crate) fn cases(directory: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let confs = paths.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    let case = |path: PathBuf| Case {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        bytes: fs::read(&path).unwrap(),
    };
    let mut cases = confs.map(case).collect::<Vec<_>>();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A file as editors of other systems write it, which a repository must not contain.
pub(crate) fn variants(plain: &Case) -> Vec<Case> {
    let text = text(&plain.bytes);
    let utf16 = [0xfeff].into_iter().chain(text.encode_utf16());
    let variant = |name: &str, bytes: Vec<u8>| Case {
        name: format!("{} {name}", plain.name),
        bytes,
    };
    vec![
        variant("with carriage returns", text.replace('\n', "\r\n").into()),
        variant(
            "with white space at the ends of lines",
            text.replace('\n', " \t\n").into(),
        ),
        variant("without the last line break", text.trim_end().into()),
        variant("after a byte order mark", format!("\u{feff}{text}").into()),
        variant("in UTF-16", utf16.flat_map(u16::to_le_bytes).collect()),
    ]
}

impl Case {
    /// Writes the file to a separate directory, with the name of its interface.
    pub(crate) fn put(&self) -> (TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg0.conf");
        fs::write(&path, &self.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    /// The content in lower case, without comments and white space.
    fn squeezed(&self) -> Vec<String> {
        let text = text(&self.bytes).to_ascii_lowercase();
        let line = |line: &str| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect::<String>()
        };
        text.lines().map(line).collect()
    }

    /// Whether `wg-quick up` matters besides `wg setconf`: because of its own keys, or of a route that has rules.
    pub(crate) fn is_whole(&self) -> bool {
        const OWN: [&str; 9] = [
            "address=",
            "dns=",
            "mtu=",
            "table=",
            "preup=",
            "postup=",
            "predown=",
            "postdown=",
            "saveconfig=",
        ];
        let own = |line: &String| OWN.iter().any(|key| line.starts_with(key)) || line.contains("/0");
        self.squeezed().iter().any(own)
    }

    pub(crate) fn has_port(&self) -> bool {
        let port = |line: &String| line.starts_with("listenport=") && line != "listenport=0";
        self.squeezed().iter().any(port)
    }
}
