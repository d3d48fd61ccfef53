//! Calls of bpf(2): element and batch operations on maps, and information about links and maps. All unsafe
//! code of the adapter is here. Every function is safe to call, because sizes come from the kernel and are
//! checked.
#![expect(
    unsafe_code,
    reason = "bpf(2) takes pointers; aya has neither batches nor a TCX link's device"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

use crate::files;

// Commands, `enum bpf_cmd` in linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const LOOKUP_ELEM: libc::c_int = 1;
const UPDATE_ELEM: libc::c_int = 2;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LOOKUP_BATCH: libc::c_int = 24;
const UPDATE_BATCH: libc::c_int = 26;
const DELETE_BATCH: libc::c_int = 27;
const LINK_DETACH: libc::c_int = 34;

/// `BPF_F_RDONLY`: the descriptor can't write.
const READ_ONLY: u32 = 1 << 3;

/// `BPF_NOEXIST`: EEXIST if the element exists.
const NO_EXIST: u64 = 1;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`, `enum bpf_attach_type`.
pub(super) const TCX_INGRESS: u32 = 46;
pub(super) const TCX_EGRESS: u32 = 47;

/// `BPF_LINK_TYPE_TCX`.
const LINK_TYPE_TCX: u32 = 11;

/// The shape of a map, `struct bpf_map_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    /// `enum bpf_map_type`.
    pub(super) kind: u32,
    /// Bytes.
    pub(super) key_size: u32,
    /// Bytes; of one CPU's value in per-CPU maps.
    pub(super) value_size: u32,
    /// Entries.
    pub(super) max_entries: u32,
    /// `BPF_F_*` of the creation.
    pub(super) flags: u32,
}

/// A map and the sizes of its values.
#[derive(Debug)]
pub(super) struct MapFd {
    fd: OwnedFd,
    /// The kernel id.
    id: u32,
    shape: MapShape,
    /// Bytes that a lookup writes; in per-CPU maps the values of all CPUs.
    value_bytes: usize,
}

/// The result of a batch: the number of elements done, and the error of the next one.
#[derive(Debug)]
pub(super) struct Batch {
    /// The number of elements done, from the first one on.
    pub(super) done: usize,
    /// The error of the element after these; `None` if all are done.
    pub(super) error: Option<io::Error>,
}

impl MapFd {
    /// Opens a pinned map; `writable` or not.
    pub(super) fn open(path: &Path, writable: bool) -> io::Result<MapFd> {
        let fd = object_get(path, if writable { 0 } else { READ_ONLY })?;
        let info: RawMapInfo = info(&fd)?;
        let shape = MapShape {
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
        };
        Ok(MapFd {
            fd,
            id: info.id,
            value_bytes: value_bytes(&shape)?,
            shape,
        })
    }

    /// Creates a map, whose name has at most 15 bytes, and pins it; fails if the path exists.
    pub(super) fn create(path: &Path, name: &str, shape: MapShape) -> io::Result<MapFd> {
        let mut attribute = MapCreate {
            kind: shape.kind,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            flags: shape.flags,
            ..Zeroable::zeroed()
        };
        let bytes = name.as_bytes();
        attribute.name[..bytes.len()].copy_from_slice(bytes);
        let fd = call(MAP_CREATE, &mut attribute)?;
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let info: RawMapInfo = info(&fd)?;
        let map = MapFd {
            fd,
            id: info.id,
            value_bytes: value_bytes(&shape)?,
            shape,
        };
        map.pin(path)?;
        Ok(map)
    }

    /// Pins the map; fails if the path exists.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attribute = ObjectGet {
            path: address(path.as_bytes_with_nul()),
            fd: descriptor(&self.fd),
            flags: 0,
        };
        call(OBJ_PIN, &mut attribute).map(drop)
    }

    /// Whether this map is pinned at this path.
    pub(super) fn is_pinned(&self, path: &Path) -> io::Result<bool> {
        match pinned_map_id(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            id => Ok(id? == self.id),
        }
    }

    /// Pins the map unless it is pinned at this path; replaces the pin of another map.
    pub(super) fn keep_pinned(&self, path: &Path) -> io::Result<()> {
        if self.is_pinned(path)? {
            return Ok(());
        }
        files::remove(path)?;
        self.pin(path)
    }

    pub(super) fn shape(&self) -> MapShape {
        self.shape
    }

    /// The size of the value of an element in lookups and updates, in bytes.
    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Reads an element; returns whether it exists.
    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, value, 1);
        let mut attribute = self.element(key, address_mut(value), 0);
        absent(call(LOOKUP_ELEM, &mut attribute))
    }

    /// Writes an element.
    pub(super) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, value, 1);
        let mut attribute = self.element(key, address(value), 0);
        call(UPDATE_ELEM, &mut attribute).map(drop)
    }

    /// Writes an element unless its key exists.
    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, value, 1);
        let mut attribute = self.element(key, address(value), NO_EXIST);
        call(UPDATE_ELEM, &mut attribute).map(drop)
    }

    /// Reads the elements after `cursor` (`None` for the start), as many as fit. Returns their number and the
    /// next cursor, which is `None` at the end.
    pub(super) fn lookup_batch(
        &self,
        cursor: Option<&[u8]>,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<(usize, Option<Vec<u8>>)> {
        let count = keys.len() / self.shape.key_size as usize;
        self.check(keys, values, count);
        // The cursor of a hash map is a u32, that of others a key.
        let mut next = vec![0; self.shape.key_size.max(4) as usize];
        if let Some(cursor) = cursor {
            assert_eq!(cursor.len(), next.len(), "a cursor of this map's");
        }
        let mut attribute = self.batch(count, address_mut(keys), address_mut(values));
        attribute.in_batch = cursor.map_or(0, address);
        attribute.out_batch = address_mut(&mut next);
        let more = absent(call(LOOKUP_BATCH, &mut attribute))?;
        Ok((count.min(attribute.count as usize), more.then_some(next)))
    }

    /// Writes elements in order until one fails.
    pub(super) fn update_batch(&self, keys: &[u8], values: &[u8]) -> Batch {
        let count = keys.len() / self.shape.key_size as usize;
        self.check(keys, values, count);
        let attribute = self.batch(count, address(keys), address(values));
        run_batch(UPDATE_BATCH, attribute)
    }

    /// Deletes elements in order until one fails, also because it does not exist.
    pub(super) fn delete_batch(&self, keys: &[u8]) -> Batch {
        let count = keys.len() / self.shape.key_size as usize;
        assert_eq!(keys.len(), count * self.shape.key_size as usize, "whole keys");
        run_batch(DELETE_BATCH, self.batch(count, address(keys), 0))
    }

    /// Checks what makes the calls sound: the kernel reads and writes exactly as many bytes.
    fn check(&self, keys: &[u8], values: &[u8], count: usize) {
        assert_eq!(keys.len(), count * self.shape.key_size as usize, "whole keys");
        assert_eq!(values.len(), count * self.value_bytes, "as many values as keys");
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> Element {
        Element {
            map: descriptor(&self.fd),
            padding: 0,
            key: address(key),
            value,
            flags,
        }
    }

    fn batch(&self, count: usize, keys: u64, values: u64) -> BatchAttribute {
        BatchAttribute {
            keys,
            values,
            count: u32::try_from(count).expect("no batch exceeds a map"),
            map: descriptor(&self.fd),
            ..Zeroable::zeroed()
        }
    }
}

/// A pinned TCX link, as the kernel describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcxLink {
    /// The id of its program.
    pub(super) program: u32,
    /// The index of its device; 0 if that was deleted.
    pub(super) ifindex: u32,
}

/// Describes a pinned link; `None` if it is not a TCX link.
pub(super) fn tcx_link(path: &Path) -> io::Result<Option<TcxLink>> {
    let info: RawLinkInfo = info(&object_get(path, 0)?)?;
    Ok((info.kind == LINK_TYPE_TCX).then_some(TcxLink {
        program: info.program,
        ifindex: info.ifindex,
    }))
}

/// The kernel id of a pinned map.
pub(super) fn pinned_map_id(path: &Path) -> io::Result<u32> {
    let info: RawMapInfo = info(&object_get(path, READ_ONLY)?)?;
    Ok(info.id)
}

/// The revision of a TCX hook of a device, in the namespace of the calling thread; `side` is the `enum
/// bpf_attach_type`.
pub(super) fn tcx_revision(ifindex: u32, side: u32) -> io::Result<u64> {
    Ok(tcx_query(ifindex, side)?.revision)
}

/// The number of programs on a TCX hook of a device.
pub(super) fn tcx_programs(ifindex: u32, side: u32) -> io::Result<u32> {
    Ok(tcx_query(ifindex, side)?.count)
}

fn tcx_query(ifindex: u32, side: u32) -> io::Result<ProgramQuery> {
    let mut attribute = ProgramQuery {
        ifindex,
        side,
        ..Zeroable::zeroed()
    };
    call(PROG_QUERY, &mut attribute)?;
    Ok(attribute)
}

/// Detaches the program of a pinned link at once; removing the pin alone does that some time later.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let fd = object_get(path, 0)?;
    let mut attribute = LinkDetach {
        link: descriptor(&fd),
    };
    call(LINK_DETACH, &mut attribute).map(drop)
}

/// `BPF_MAP_*_ELEM` in `union bpf_attr`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_MAP_*_BATCH`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BatchAttribute {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The head of `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// `BPF_LINK_DETACH`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkDetach {
    link: u32,
}

/// `BPF_PROG_QUERY`, without room for programs.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ProgramQuery {
    ifindex: u32,
    side: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawMapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The head of `struct bpf_link_info`, with the member `tcx` of the union.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    attach_type: u32,
}

fn object_get(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = ObjectGet {
        path: address(path.as_bytes_with_nul()),
        fd: 0,
        flags,
    };
    let fd = call(OBJ_GET, &mut attribute)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info<T: Pod>(fd: &OwnedFd) -> io::Result<T> {
    let mut info = [T::zeroed()];
    let mut attribute = GetInfo {
        fd: descriptor(fd),
        length: u32::try_from(size_of::<T>()).expect("a small structure"),
        info: address_mut(bytemuck::cast_slice_mut(&mut info)),
    };
    call(OBJ_GET_INFO_BY_FD, &mut attribute)?;
    let [info] = info;
    Ok(info)
}

fn run_batch(command: libc::c_int, mut attribute: BatchAttribute) -> Batch {
    let count = attribute.count;
    match call(command, &mut attribute) {
        Ok(_) => Batch {
            done: count as usize,
            error: None,
        },
        // If the first element is refused, the kernel leaves the count unchanged.
        Err(error) => Batch {
            done: if attribute.count < count {
                attribute.count as usize
            } else {
                0
            },
            error: Some(error),
        },
    }
}

/// Calls bpf(2). The caller must ensure that each address in the attribute is valid for the command.
fn call<T: Pod>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_int> {
    let attribute: *mut T = attribute;
    // SAFETY: the attribute is plain data of the given size; the addresses in it point to live slices whose
    // lengths were checked against the sizes of the map.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::c_int::try_from(result).expect("a descriptor or 0"))
}

/// Converts "no such element" to false.
fn absent(result: io::Result<libc::c_int>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn value_bytes(shape: &MapShape) -> io::Result<usize> {
    use aya::maps::MapType;

    let one = shape.value_size as usize;
    if ![MapType::PerCpuArray as u32, MapType::PerCpuHash as u32].contains(&shape.kind) {
        return Ok(one);
    }
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok(one.next_multiple_of(8) * cpus)
}

fn descriptor(fd: &OwnedFd) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a descriptor is not negative")
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as u64
}
