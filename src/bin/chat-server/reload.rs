//! Reload: reads the configuration again while the server runs. SIGHUP and the control
//! socket call the same function.

use std::sync::{Arc, Mutex, PoisonError};

use chat::{
    password::source::PASSWORD_VARIABLE,
    server::{Certificates, Reloader, configured::Configured},
};
use tracing::warn;

use crate::log::Level;

/// What is read again, and who is told.
pub struct Reload {
    pub server: Reloader,
    pub certificates: Option<Arc<Certificates>>,
    pub level: Level,
    /// What the server runs with.
    pub configured: Mutex<Configured>,
}

impl Reload {
    /// Reads everything again. Returns what has changed, in a sentence.
    ///
    /// # Errors
    ///
    /// What is wrong, in a sentence; then nothing has changed.
    pub fn run(&self) -> Result<String, String> {
        self.read_and_apply()
            .map_err(|sentence| format!("nothing has changed: {sentence}"))
    }

    fn read_and_apply(&self) -> Result<String, String> {
        // One at a time.
        let current = self.configured.lock();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        let read = Configured::read_again()?;
        let password = std::env::var_os(PASSWORD_VARIABLE);
        let (live, warning) = read.options.live(password)?;
        self.server.check(&live)?;
        let certificates = self.certificates.as_ref();
        let certificate = certificates
            .map(|certificates| certificates.read_again())
            .transpose()?;
        // From here on nothing can go wrong.
        let mut changes = self.server.apply(live);
        let mut warnings = Vec::from_iter(warning);
        if let (Some(certificates), Some(certificate)) = (certificates, certificate) {
            certificates.set(certificate);
            warnings.extend(certificates.warnings());
            changes.push("the certificate was read again".to_owned());
        }
        let verbose = read.options.verbose;
        if verbose != current.options.verbose {
            self.level.set(verbose);
            changes.push(format!(
                "verbose from {} to {verbose}",
                current.options.verbose
            ));
        }
        for warning in warnings {
            warn!("{warning}");
        }
        let later = current.restart_needed(&read);
        if !later.is_empty() {
            changes.push(format!("only a restart changes {}", later.join(", ")));
        }
        current.options.verbose = verbose;
        Ok(match changes.is_empty() {
            true => "nothing has changed, serving on".to_owned(),
            false => changes.join("; "),
        })
    }
}
