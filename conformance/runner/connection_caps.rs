//! Connection caps: how many connections the server takes. No message announces
//! them, so the options of the command line do.

use crate::transcript::Saturation;

/// How many connections the server takes, where an option says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionCaps {
    /// In all.
    pub server: Option<usize>,
    /// From one network address.
    pub address: Option<usize>,
    /// New ones from one network address in a minute.
    pub minute: Option<usize>,
}

impl ConnectionCaps {
    /// How many connections bring the server to this limit.
    pub fn get(&self, saturation: Saturation) -> Option<usize> {
        match saturation {
            Saturation::Server => self.server,
            Saturation::Address => self.address,
            Saturation::AddressRate => self.minute,
        }
    }

    /// How many connections the suite may have at a time.
    pub fn at_once(&self) -> Option<usize> {
        self.server.into_iter().chain(self.address).min()
    }

    /// Why a case is not run without knowing a limit.
    pub fn unknown(saturation: Saturation) -> String {
        match saturation {
            Saturation::Server => {
                "give --connections-max: how many connections the server takes"
            }
            Saturation::Address => {
                "give --connections-per-address-max: how many connections the server takes from one address"
            }
            Saturation::AddressRate => {
                "give --connections-per-minute-max: how many new connections a minute the server takes from one address"
            }
        }
        .to_owned()
    }
}
