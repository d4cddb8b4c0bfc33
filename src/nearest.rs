//! Nearest: the known word that somebody may have meant. Pure.

/// The known word that is most like `word`, if one is like it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .filter(|(distance, known)| *distance * 2 < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_near_if_most_of_it_is_right() {
        let known = ["bell", "history", "time"];
        assert_eq!(nearest("histroy", known), Some("history"));
        assert_eq!(nearest("BEL", known), Some("bell"));
        assert_eq!(nearest("xyzzy", known), None);
    }
}
