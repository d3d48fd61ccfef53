//! The BPF object that is embedded in this binary. The build script compiles it from `dataplane-ebpf`.

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ADIT_BPF_OBJECT_PATH"));

/// The object, an ELF file, aligned to 32 bytes.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}
