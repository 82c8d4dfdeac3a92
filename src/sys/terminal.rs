//! The terminal on standard input, in a mode in which this process gets each byte at once.
//!
//! In its usual mode a terminal hands over whole lines, cuts each at 4,095 bytes, and shows all
//! that is typed. The rest of a longer paste, or its second line, stays there for the next reader:
//! the user's shell, which runs it.
//!
//! # Invariants
//!
//! - The mode is restored when [`RawTerminal`] is dropped: at each return, error and panic. The
//!   signals that end a process become [`Event::Interrupted`], so that they lead there too. SIGKILL
//!   cannot be caught; interactive shells restore the mode themselves.
//! - Input that arrived until then and was not read is discarded. No later reader gets it.
//! - Output keeps its usual mode, so that a log line or a panic message looks as usual.

#![expect(unsafe_code, reason = "the modes of a terminal are system calls")]

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::OnceLock,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
};

/// Asks the terminal to enclose a paste in `ESC[200~` and `ESC[201~`.
const BRACKETED_PASTE_ON: &[u8] = b"\x1b[?2004h";
const BRACKETED_PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// An event at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes were read.
    Bytes(usize),
    /// The terminal is gone.
    Closed,
    /// A signal asks this process to end.
    Interrupted,
    /// The process was stopped and continues. The screen shows other programs' output.
    Resumed,
}

/// The terminal on standard input, until it is dropped.
pub struct RawTerminal {
    input: AsyncFd<File>,
    usual_mode: libc::termios,
    /// Whether the terminal understands escape sequences.
    has_escapes: bool,
    ends: CaughtSignals,
    resumed: Signal,
}

impl RawTerminal {
    /// Changes the mode of the terminal. With `discard`, input that arrived before is lost. Must be
    /// called within a Tokio runtime.
    ///
    /// # Errors
    /// The system's, for example if standard input is not a terminal.
    pub fn open(discard: bool) -> io::Result<Self> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let usual_mode = mode(&input)?;
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = Self {
            // SAFETY: the file owns its descriptor, and nothing replaces or closes it in the meantime.
            input: unsafe { AsyncFd::register_with_interest(input, Interest::READABLE) }?,
            usual_mode,
            has_escapes: !is_dumb && io::stderr().is_terminal(),
            ends: CaughtSignals::new()?,
            resumed: signal(SignalKind::from_raw(libc::SIGCONT))?,
        };
        terminal.enter(if discard { libc::TCSAFLUSH } else { libc::TCSADRAIN })?;
        Ok(terminal)
    }

    /// Waits for the next event, and reads into `buffer`. May be cancelled.
    ///
    /// # Errors
    /// The system's.
    pub async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Event> {
        let [interrupt, terminate, hangup, quit] = &mut self.ends.signals;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(Event::Interrupted),
            _ = terminate.recv() => Ok(Event::Interrupted),
            _ = hangup.recv() => Ok(Event::Interrupted),
            _ = quit.recv() => Ok(Event::Interrupted),
            _ = self.resumed.recv() => {
                enter(&self.input, &self.usual_mode, self.has_escapes, libc::TCSADRAIN)?;
                Ok(Event::Resumed)
            }
            read = read(&self.input, buffer) => read,
        }
    }

    /// Stops the job of this process, as Ctrl-Z does, until the user continues it.
    pub fn suspend(&self) {
        self.leave(libc::TCSADRAIN);
        // SAFETY: plain numbers; 0 is the process group of the caller.
        unsafe {
            libc::kill(0, libc::SIGTSTP);
        }
        let _ = self.enter(libc::TCSADRAIN);
    }

    /// Returns the number of columns, if the terminal reports one.
    pub fn columns(&self) -> Option<usize> {
        let mut size = std::mem::MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: the descriptor is open, and the call writes one `winsize`, for which zeros are valid.
        let size = unsafe {
            if libc::ioctl(self.input.get_ref().as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) != 0 {
                return None;
            }
            size.assume_init()
        };
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    fn enter(&self, when: libc::c_int) -> io::Result<()> {
        enter(&self.input, &self.usual_mode, self.has_escapes, when)
    }

    fn leave(&self, when: libc::c_int) {
        if self.has_escapes {
            let _ = io::stderr().write_all(BRACKETED_PASTE_OFF);
        }
        let _ = set_mode(self.input.get_ref(), when, &self.usual_mode);
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.leave(libc::TCSAFLUSH);
    }
}

/// The signals that end a process. They have their usual effect again when this is dropped, so that
/// the user can interrupt whatever follows the question.
struct CaughtSignals {
    signals: [Signal; 4],
    usual: [libc::sigaction; 4],
}

const ENDS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

impl CaughtSignals {
    fn new() -> io::Result<Self> {
        /// Tokio's handlers: it installs each once and believes that it stays.
        static HANDLERS: OnceLock<[libc::sigaction; 4]> = OnceLock::new();
        let usual = ENDS.map(action);
        let [interrupt, terminate, hangup, quit] = ENDS.map(|number| signal(SignalKind::from_raw(number)));
        let signals = [interrupt?, terminate?, hangup?, quit?];
        let handlers = HANDLERS.get_or_init(|| ENDS.map(action));
        for ((number, handler), usual) in ENDS.into_iter().zip(handlers).zip(&usual) {
            // A signal that is ignored, as under nohup, stays ignored.
            set_action(number, if usual.sa_sigaction == libc::SIG_IGN { usual } else { handler });
        }
        Ok(Self { signals, usual })
    }
}

impl Drop for CaughtSignals {
    fn drop(&mut self) {
        ENDS.into_iter().zip(&self.usual).for_each(|(number, usual)| set_action(number, usual));
    }
}

fn action(number: libc::c_int) -> libc::sigaction {
    // SAFETY: zeros are a valid structure, and the call fills it. It fails for no valid number.
    unsafe {
        let mut action = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &mut action);
        action
    }
}

fn set_action(number: libc::c_int, action: &libc::sigaction) {
    // SAFETY: the structure comes from `action`, so its handler is one that was installed before.
    unsafe {
        libc::sigaction(number, action, std::ptr::null_mut());
    }
}

fn enter(
    input: &AsyncFd<File>,
    usual: &libc::termios,
    has_escapes: bool,
    when: libc::c_int,
) -> io::Result<()> {
    let mut mode = *usual;
    mode.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ECHONL | libc::ISIG | libc::IEXTEN);
    mode.c_iflag &= !(libc::IXON | libc::ISTRIP | libc::INLCR | libc::IGNCR);
    // A read returns at once, with nothing if nothing is there. So the descriptor can stay in
    // blocking mode, which it shares with the shell.
    mode.c_cc[libc::VMIN] = 0;
    mode.c_cc[libc::VTIME] = 0;
    set_mode(input.get_ref(), when, &mode)?;
    if has_escapes {
        let _ = io::stderr().write_all(BRACKETED_PASTE_ON);
    }
    Ok(())
}

async fn read(input: &AsyncFd<File>, buffer: &mut [u8]) -> io::Result<Event> {
    loop {
        let mut ready = input.readable().await?;
        let is_closed = ready.ready().is_read_closed();
        match input.get_ref().read(buffer) {
            Ok(0) if is_closed => return Ok(Event::Closed),
            Ok(0) => ready.clear_ready(),
            Ok(read) => return Ok(Event::Bytes(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            // The other end of a pseudo-terminal is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(Event::Closed),
            Err(error) => return Err(error),
        }
    }
}

fn mode(input: &File) -> io::Result<libc::termios> {
    let mut mode = std::mem::MaybeUninit::uninit();
    // SAFETY: the descriptor is open, and the call fills the structure if it succeeds.
    unsafe {
        if libc::tcgetattr(input.as_raw_fd(), mode.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(mode.assume_init())
    }
}

fn set_mode(input: &File, when: libc::c_int, mode: &libc::termios) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the structure outlives the call.
    match unsafe { libc::tcsetattr(input.as_raw_fd(), when, mode) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
