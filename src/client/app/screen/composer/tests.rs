use super::*;
use proptest::prelude::*;

fn typed(text: &str) -> Composer {
    let mut composer = Composer::default();
    for character in text.chars() {
        composer.insert(character.encode_utf8(&mut [0; 4]));
    }
    composer
}

/// The text with a bar at the cursor.
fn shown(composer: &Composer) -> String {
    let (before, after) = composer.text().split_at(composer.cursor());
    format!("{before}|{after}")
}

#[test]
fn movement_is_by_cluster_word_and_line() {
    let mut composer = typed("ae\u{301}👩\u{200d}🔬 two\nthree");
    composer.line_start();
    composer.left();
    assert_eq!(shown(&composer), "ae\u{301}👩\u{200d}🔬 two|\nthree");
    composer.word_left();
    composer.left();
    composer.left();
    assert_eq!(shown(&composer), "ae\u{301}|👩\u{200d}🔬 two\nthree");
    composer.right();
    composer.word_right();
    assert_eq!(shown(&composer), "ae\u{301}👩\u{200d}🔬 two|\nthree");
    assert!(composer.down());
    assert_eq!(shown(&composer), "ae\u{301}👩\u{200d}🔬 two\nthree|");
    assert!(!composer.down());
    composer.left();
    assert!(composer.up());
    assert_eq!(shown(&composer), "ae\u{301}👩\u{200d}🔬 |two\nthree");
    assert!(!composer.up());
}

#[test]
fn kills_in_a_row_are_one_text() {
    let mut composer = typed("one two three");
    composer.kill_word_back();
    composer.kill_back_to_blank();
    assert_eq!(shown(&composer), "one |");
    composer.yank();
    assert_eq!(shown(&composer), "one two three|");
    composer.line_start();
    composer.kill_word_forward();
    composer.kill_to_line_end();
    assert_eq!(shown(&composer), "|");
    composer.yank();
    composer.yank_older();
    assert_eq!(shown(&composer), "two three|");
    composer.yank_older();
    assert_eq!(shown(&composer), "one two three|");
}

#[test]
fn undo_takes_back_words_and_kills() {
    let mut composer = typed("one two");
    composer.kill_to_line_start();
    composer.undo();
    assert_eq!(shown(&composer), "one two|");
    composer.undo();
    assert_eq!(shown(&composer), "one |");
    composer.undo();
    composer.undo();
    composer.undo();
    assert_eq!(shown(&composer), "|");
}

#[test]
fn characters_are_swapped() {
    let mut composer = typed("abc");
    composer.transpose();
    assert_eq!(shown(&composer), "acb|");
    composer.left();
    composer.left();
    composer.transpose();
    assert_eq!(shown(&composer), "ca|b");
    composer.line_start();
    composer.transpose();
    assert_eq!(shown(&composer), "|cab");
}

#[test]
fn the_draft_is_bounded() {
    let mut composer = Composer::default();
    assert!(composer.insert(&"x".repeat(DRAFT_BYTES_MAX - 1)));
    assert!(!composer.insert("é"));
    assert_eq!(composer.text().len(), DRAFT_BYTES_MAX - 1);
}

proptest! {
    /// Whatever keys are pressed: the cursor stands between clusters, and nothing
    /// panics.
    #[test]
    fn any_keys_are_harmless(keys in proptest::collection::vec(0..23, 0..80)) {
        let texts = ["a", " ", "\n", "é", "\u{301}", "\u{200d}", "👩", "🇩", "日"];
        let mut composer = Composer::default();
        for key in keys {
            match key {
                0 => composer.left(),
                1 => composer.right(),
                2 => composer.word_left(),
                3 => composer.word_right(),
                4 => drop(composer.up()),
                5 => drop(composer.down()),
                6 => composer.delete_back(),
                7 => composer.delete_forward(),
                8 => composer.kill_to_line_end(),
                9 => composer.kill_word_back(),
                10 => composer.kill_back_to_blank(),
                11 => composer.yank(),
                12 => composer.yank_older(),
                13 => composer.undo(),
                other => drop(composer.insert(texts[(other - 14) as usize])),
            }
            let cursor = composer.cursor();
            let ends = composer.text().grapheme_indices(true);
            let mut ends = ends.map(|(index, cluster)| index + cluster.len());
            prop_assert!(cursor == 0 || ends.any(|end| end == cursor), "{:?}", shown(&composer));
        }
    }
}
