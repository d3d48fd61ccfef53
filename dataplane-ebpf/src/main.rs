//! The BPF programs: `adit_egress` chooses the tunnel for packets that leave by `adit0`, and the programs
//! `adit_in_…` count packets that arrive on tunnel devices.
#![no_std]
#![no_main]

mod programs;

#[expect(unsafe_code, reason = "the kernel reads the licence from this section")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts only programs that terminate, so this loop is never reached.
    loop {}
}
