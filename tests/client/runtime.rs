//! The runtime of a test that uses the library.

/// Runs a test on a runtime of its own, to its end.
pub fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}
