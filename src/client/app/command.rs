//! Commands: what a line that begins with a slash does.

/// The command that leaves; the editor ends with it.
pub(super) const QUIT: &str = "/quit";

/// What `/help` shows.
pub(super) const HELP: [&str; 4] = [
    "/who shows who is here",
    "/quit leaves, and so do Ctrl-D and Ctrl-C",
    "//word sends a line that begins with /word",
    "everything else, and a paste of several lines, is sent to all who are here",
];

/// The only line of an input, without trailing spaces and line breaks; only such an
/// input can be a command.
pub(super) fn only_line(input: &str) -> Option<&str> {
    let line = input.trim_end();
    (!line.contains('\n')).then_some(line)
}
