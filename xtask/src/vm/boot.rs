//! Prepares a kernel so that it boots fast: its unpacked image, and the modules for the root file system.
//!
//! Both are created once for a kernel and kept in the cache.
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::Modules;
use crate::{child, host, progress, workspace};

/// Modules that the first program loads before the root is mounted: the bus, the ports, 9p and overlayfs.
const PRELOAD: [&str; 5] = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/// The boot files of a kernel.
#[derive(Debug)]
pub(super) struct Boot {
    /// The unpacked ELF image, which QEMU starts at its PVH entry, so that the guest does not unpack it.
    pub(super) vmlinux: PathBuf,
    /// A cpio archive of preload/NN-NAME.ko, which are loaded in the order of their names.
    pub(super) preload: PathBuf,
}

/// Finds the boot files of a kernel in the cache, or creates them.
pub(super) fn prepare(kernel: &Kernel) -> Result<Boot> {
    let all = workspace::cache_dir()?.join("boot");
    let dir = all.join(format!("{}-{:016x}", kernel.release, identity(kernel)?));
    if !dir.exists() {
        progress::say(format_args!("unpacking Linux {}…", kernel.release));
        fs::create_dir_all(&all).with_context(|| format!("creating {}", all.display()))?;
        let scratch = tempfile::Builder::new()
            .prefix(".make-")
            .tempdir_in(&all)
            .context("creating a scratch directory")?;
        let made = scratch.path().join("boot");
        fs::create_dir(&made)?;
        unpack_image(&kernel.image, &made.join("vmlinux"))
            .with_context(|| format!("unpacking {}", kernel.image.display()))?;
        fs::write(made.join("preload.cpio"), preload_archive(&kernel.modules)?)?;
        // Another process may have created the same files in the meantime, which is as good.
        if let Err(error) = fs::rename(&made, &dir)
            && !dir.exists()
        {
            return Err(error).with_context(|| format!("moving boot files to {}", dir.display()));
        }
    }
    Ok(Boot {
        vmlinux: dir.join("vmlinux"),
        preload: dir.join("preload.cpio"),
    })
}

/// A hash that changes whenever the boot files would.
fn identity(kernel: &Kernel) -> Result<u64> {
    let meta = fs::metadata(&kernel.image).with_context(|| format!("reading {}", kernel.image.display()))?;
    let mut hasher = DefaultHasher::new();
    (&kernel.image, meta.len(), meta.modified().ok(), PRELOAD).hash(&mut hasher);
    Ok(hasher.finish())
}

fn preload_archive(modules: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for (index, file) in Modules::read(modules)?.load_order(&PRELOAD)?.iter().enumerate() {
        let path = modules.join(file);
        let unpack: &[&str] = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => &["xz", "-dc"],
            Some("zst") => &["zstd", "-dcq"],
            Some("gz") => &["gzip", "-dc"],
            _ => &[],
        };
        let data = match unpack {
            [] => fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
            [program, options @ ..] => child::run(Command::new(program).args(options).arg(&path))?.stdout,
        };
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split(".ko").next().unwrap_or_default();
        archive.file(&format!("preload/{index:02}-{stem}.ko"), 0o644, &data)?;
    }
    archive.finish()
}

/// Writes the ELF image out of a bzImage.
fn unpack_image(image: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(image)?;
    let payload = Payload::locate(&bytes)?;
    let [program, options @ ..] = payload.unpacker()? else {
        bail!("an unpacker has a program")
    };
    let program = host::find_program(program)
        .with_context(|| format!("{program} is missing: run `cargo xtask setup`"))?;

    let mut packed = tempfile::tempfile().context("a scratch file")?;
    packed
        .write_all(payload.data)
        .and_then(|()| packed.rewind())
        .context("a scratch file")?;
    let status = Command::new(program)
        .args(options)
        .stdin(packed)
        .stdout(File::create(to)?)
        .status()?;
    let unpacked = fs::metadata(to)?.len();
    if !status.success() || unpacked != u64::from(payload.unpacked_size) {
        bail!(
            "unpacked {unpacked} bytes instead of {}, {status}",
            payload.unpacked_size
        );
    }
    if !fs::read(to)?.starts_with(b"\x7fELF") {
        bail!("the unpacked image is not an ELF file");
    }
    Ok(())
}

/// The compressed kernel inside of a bzImage (kernel's Documentation/arch/x86/boot.rst).
#[derive(Debug, PartialEq, Eq)]
struct Payload<'a> {
    data: &'a [u8],
    unpacked_size: u32,
}

impl<'a> Payload<'a> {
    fn locate(image: &'a [u8]) -> Result<Self> {
        let u32_at = |at: usize| -> Result<u32> {
            let bytes = image.get(at..at + 4).context("the image is truncated")?;
            Ok(u32::from_le_bytes(bytes.try_into().context("four bytes")?))
        };
        if image.get(0x202..0x206) != Some(b"HdrS") {
            bail!("the file is not a bzImage");
        }
        // setup_sects: zero means four, for compatibility with very old boot loaders.
        let sectors = match image[0x1f1] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let start = (sectors + 1) * 512 + usize::try_from(u32_at(0x248)?)?;
        let end = start + usize::try_from(u32_at(0x24c)?)?;
        let payload = image
            .get(start..end)
            .context("the payload lies outside of the image")?;
        let (data, size) = payload.split_last_chunk::<4>().context("the payload is empty")?;
        // The build of the kernel appends the size, except with gzip, whose format ends with it.
        let data = if payload.starts_with(&[0x1f, 0x8b]) {
            payload
        } else {
            data
        };
        Ok(Self {
            data,
            unpacked_size: u32::from_le_bytes(*size),
        })
    }

    /// The program, and its options, that unpacks standard input to standard output.
    fn unpacker(&self) -> Result<&'static [&'static str]> {
        Ok(match self.data {
            [0x1f, 0x8b, ..] => &["gzip", "-dc"],
            [0xfd, b'7', b'z', b'X', b'Z', ..] => &["xz", "-dc", "--single-stream"],
            [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zstd", "-dcq"],
            [0x02, 0x21, 0x4c, 0x18, ..] => &["lz4", "-dcq"],
            _ => bail!("the compression format is unknown: not gzip, xz, zstd or lz4"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(sectors: u8, payload: &[u8]) -> Vec<u8> {
        let blocks = if sectors == 0 { 4 } else { usize::from(sectors) };
        let mut image = vec![0; (blocks + 1) * 512 + 0x10];
        image[0x1f1] = sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 0x10;
        image[0x24c] = u8::try_from(payload.len()).unwrap();
        image.extend(payload);
        image.extend(b"a signature");
        image
    }

    #[test]
    fn the_payload_starts_behind_the_setup_sectors() {
        for sectors in [0, 2, 39] {
            let image = image(sectors, b"\x28\xb5\x2f\xfdpacked\x02\x01\0\0");
            let payload = Payload::locate(&image).unwrap();
            assert_eq!(
                payload,
                Payload {
                    data: b"\x28\xb5\x2f\xfdpacked",
                    unpacked_size: 0x102
                }
            );
            assert_eq!(payload.unpacker().unwrap()[0], "zstd");
        }
    }

    #[test]
    fn a_broken_image_is_an_error() {
        let mut short = image(1, b"packed..");
        short.truncate(1024 + 0x12);
        assert!(Payload::locate(&short).is_err());
        assert!(Payload::locate(b"\x7fELF").is_err());
        assert!(
            Payload::locate(&image(1, b"unknown...."))
                .unwrap()
                .unpacker()
                .is_err()
        );
    }
}
