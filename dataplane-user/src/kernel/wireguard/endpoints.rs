//! The file of configured endpoints of WireGuard peers, which is used if there is no BPF file system. It is
//! in the state directory, has a line `DEVICE PEER ENDPOINT` for each peer, and is always replaced as a
//! whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::net::{LinkName, PeerEndpoint, PublicKey};

/// The name of the file in the state directory.
pub const NAME: &str = "endpoints";

/// Endpoints by device and peer.
pub type Endpoints = BTreeMap<(LinkName, PublicKey), PeerEndpoint>;

/// An error of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct EndpointsError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Loads the configured endpoints; none if there is no file. Lines of another form are ignored.
///
/// # Errors
/// When the file can't be read, or is not UTF-8.
pub fn load(directory: &Path) -> Result<Endpoints, EndpointsError> {
    let path = directory.join(NAME);
    match files::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(parse).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Endpoints::new()),
        Err(source) => Err(EndpointsError { path, source }),
    }
}

/// Stores the configured endpoints; they are on disk when this returns.
///
/// # Errors
/// When the file can't be written; then the previous one stays.
pub fn store(directory: &Path, endpoints: &Endpoints) -> Result<(), EndpointsError> {
    let lines = endpoints.iter();
    let lines = lines.map(|((device, peer), endpoint)| format!("{device} {peer} {endpoint}\n"));
    let stored = files::replace(directory, NAME, &lines.collect::<String>());
    stored.map_err(|source| EndpointsError {
        path: directory.join(NAME),
        source,
    })
}

/// Removes the file.
///
/// # Errors
/// When the file can't be removed.
pub fn forget(directory: &Path) -> Result<(), EndpointsError> {
    let path = directory.join(NAME);
    files::remove(&path).map_err(|source| EndpointsError { path, source })
}

fn parse(line: &str) -> Option<((LinkName, PublicKey), PeerEndpoint)> {
    let mut fields = line.split(' ');
    let device = LinkName::new(fields.next()?).ok()?;
    let peer = fields.next()?.parse().ok()?;
    let endpoint = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some(((device, peer), endpoint))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_configured_is_read_back_and_odd_lines_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()).unwrap(), Endpoints::new());
        let all = ["192.0.2.1:51820", "[2001:db8::1]:7", "[fe80::1%eth0]:7"];
        let endpoints = (1..).zip(all).map(|(number, text)| {
            let key = (LinkName::constant("wg0"), PublicKey::from_bytes([number; 32]));
            (key, text.parse().unwrap())
        });
        let endpoints = endpoints.collect::<Endpoints>();
        store(directory.path(), &endpoints).unwrap();
        assert_eq!(load(directory.path()).unwrap(), endpoints);
        let path = directory.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("odd\nwg0 key 192.0.2.1:1\n{text}wg1\n")).unwrap();
        assert_eq!(load(directory.path()).unwrap(), endpoints);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        load(directory.path()).unwrap_err();
        fs::remove_dir(&path).unwrap();
        forget(directory.path()).unwrap();
    }
}
