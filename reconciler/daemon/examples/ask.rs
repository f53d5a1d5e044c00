//! Sends standard input to a path socket and prints what comes back: `ask SOCKET`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut request = Vec::new();
    io::stdin().read_to_end(&mut request)?;
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(&request)?;
    io::copy(&mut stream, &mut io::stdout())?;
    Ok(())
}
