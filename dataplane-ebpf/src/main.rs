//! The BPF programs: `adit_egress` chooses the tunnel for what leaves by `adit0`, the `adit_in_…` look at
//! what comes out of the tunnel devices.
#![no_std]
#![no_main]

mod programs;

#[expect(unsafe_code, reason = "the kernel reads the licence from this section")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that a program ends, so none is left that could come here.
    loop {}
}
