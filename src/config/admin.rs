//! Where the admin listener is: a loopback address or a socket, so that no other machine can reach it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// The longest path of a Unix socket, in bytes (`sun_path` in <https://man7.org/linux/man-pages/man7/unix.7.html>).
pub const SOCKET_BYTES_MAX: usize = 107;

/// What stands before the path of a socket.
const UNIX: &str = "unix:";

/// Both ways to write it.
const EXAMPLES: &str = "\"127.0.0.1:8481\" or \"unix:/run/learnsync/admin.sock\"";

/// Where the admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A loopback address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl AdminAddress {
    /// The socket at this path.
    ///
    /// # Errors
    /// The path is relative, or too long for the kernel.
    pub fn unix(path: PathBuf) -> Result<Self, String> {
        let bytes = path.as_os_str().len();
        if !path.is_absolute() {
            return Err(format!("\"{}\" is no absolute path, write it from the root on", path.display()));
        }
        if bytes > SOCKET_BYTES_MAX {
            let path = path.display();
            return Err(format!("\"{path}\" has {bytes} bytes, the limit for a socket is {SOCKET_BYTES_MAX}"));
        }
        Ok(Self::Unix(path))
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return Self::unix(PathBuf::from(path));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            // It says which destinations there are and how they are, and asks nobody for a password.
            Ok(_) => Err(format!("\"{text}\" can be reached from other machines, write {EXAMPLES}")),
            Err(_) => Err(format!("\"{text}\" is neither an address with a port nor a socket, write {EXAMPLES}")),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "{UNIX}{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for AdminAddress {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_reach_it() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let read = text.parse::<AdminAddress>().map(|address| address.to_string());
            match (&read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(words), Err(expected)) => assert!(words.contains(expected), "{words}"),
                _ => panic!("{text} is read as {read:?}"),
            }
        };
        check("127.0.0.1:8481", Ok("127.0.0.1:8481"));
        check("[::1]:8481", Ok("[::1]:8481"));
        check("unix:/run/learnsync/admin.sock", Ok("unix:/run/learnsync/admin.sock"));
        check("0.0.0.0:8481", Err("can be reached from other machines"));
        check("[::]:8481", Err("can be reached from other machines"));
        check("192.0.2.7:8481", Err("can be reached from other machines"));
        check("localhost:8481", Err("neither an address with a port nor a socket"));
        check("127.0.0.1", Err("neither an address with a port nor a socket"));
        check("unix:admin.sock", Err("is no absolute path"));
        check(&format!("unix:/{}", "x".repeat(107)), Err("has 108 bytes, the limit for a socket is 107"));
    }
}
