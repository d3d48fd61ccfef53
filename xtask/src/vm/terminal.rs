//! Connects the terminal of the user to the guest.
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::termios::{self, SetArg, Termios};

/// Standard input in raw mode, until dropped.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    pub(super) fn enter() -> Result<Self> {
        if !io::stdin().is_terminal() {
            bail!("standard input is not a terminal: give a command to run after `--`");
        }
        let before = termios::tcgetattr(io::stdin()).context("reading the mode of the terminal")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).context("setting the mode of the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If this fails, the terminal no longer exists.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// Passes input to the guest until the guest ends. The thread ends with the process, because a read cannot be woken.
pub(super) fn pass_input(mut guest: UnixStream) -> Result<()> {
    // Not `io::stdin()`, which would keep what it reads ahead.
    let mut typed = File::from(
        io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("duplicating standard input")?,
    );
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = typed.read(&mut buffer) {
            if guest.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The rows and columns of the terminal.
pub(super) fn size() -> (u16, u16) {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    #[expect(unsafe_code, reason = "nothing safe at hand asks for a terminal's size")]
    // SAFETY: TIOCGWINSZ writes one winsize to the address given, which is a live one.
    let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if result != 0 || size.ws_row == 0 || size.ws_col == 0 {
        return (24, 80);
    }
    (size.ws_row, size.ws_col)
}
