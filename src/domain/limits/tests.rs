//! Tests of `limits`.

use super::*;

#[test]
fn text_is_bounded_in_characters_and_free_of_controls() {
    assert!(is_text("", 0) && is_text("Köln", 4) && !is_text("Köln", 3));
    for bad in ["a\0b", "a\nb", "\u{85}", "\u{7f}"] {
        assert!(!is_text(bad, 9), "{bad:?}");
    }
}

#[test]
fn label_keys_are_plain() {
    assert!(is_label_key("shop.example/order-id_2"));
    for bad in ["", "A", "a b", "é", &"k".repeat(64)] {
        assert!(!is_label_key(bad), "{bad:?}");
    }
}
