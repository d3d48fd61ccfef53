//! Random changes of valid files and of those in `tests/wg-quick`.

use std::fs;
use std::path::Path;

use super::{OTHER, PRIVATE, PUBLIC};
use crate::fuzz::{Verdict, feed, same};
use crate::wg_quick::{Config, Document};

#[test]
fn a_file_is_refused_or_says_the_same_when_it_is_written_again() {
    let all_keys = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\nFwMark = 0x10\nAddress = 10.0.0.1/24, fd00::1/64\n\
         DNS = 10.0.0.9, example.org\nMTU = 1420\nTable = 100\nPreUp = echo %i\nPostDown = true # done\nSaveConfig = true\n\
         [Peer]\nPublicKey = {PUBLIC}\nPresharedKey = {OTHER}\nAllowedIPs = 10.0.0.2/32, fd00::/64\n\
         Endpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n"
    );
    let mut examples = vec![all_keys.into_bytes()];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/wg-quick");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    examples.extend(files.iter().map(|path| fs::read(path).unwrap()));
    let words: &[&[u8]] = &[
        b"\n",
        b"\r\n",
        b"#",
        b"=",
        b",",
        b"[Peer]\n",
        b"[Interface]\n",
        b"/",
        b":",
        b"[",
        b"]",
        b"%",
        b"-",
        b"0x",
        b"off",
        b"auto",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"4294967296",
        b"AllowedIPs",
        b"0.0.0.0/0",
        b"::/0",
    ];
    feed(&examples, words, |bytes| {
        let path = Path::new("wg0.conf");
        let document = Document::new(bytes.to_vec());
        proptest::prop_assert_eq!(document.bytes(), bytes);
        let Ok(mut config) = Config::of(path, &document) else {
            return Ok(Verdict::Refused);
        };
        // Warnings are about the text.
        config.warnings.clear();
        let written = config.render();
        match Config::parse(path, written.as_bytes()) {
            Ok(mut again) => {
                again.warnings.clear();
                same(&config, &again)
            }
            Err(error) => Err(proptest::test_runner::TestCaseError::fail(format!(
                "{error}: {config:?}"
            ))),
        }
    });
}
