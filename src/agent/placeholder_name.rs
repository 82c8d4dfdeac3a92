//! The check of a placeholder's argument against the names that exist.

use crate::ids::closest;

/// Checks that the name in a placeholder is one of `known`. `wrong` begins the error for another one.
///
/// # Errors
/// A sentence with the names that exist, and the most similar of them.
pub(super) fn check_name<'a>(
    text: &str,
    name: &str,
    mut known: impl Iterator<Item = &'a str> + Clone,
    wrong: &str,
) -> Result<(), String> {
    if known.clone().any(|known| known == name) {
        return Ok(());
    }
    let similar = closest(name, known.clone());
    let hint = similar.map(|similar| format!("; did you mean {{{}}}?", text.replacen(name, similar, 1)));
    match known.next() {
        None => Err(format!("{{{text}}} names {wrong}; there is none")),
        Some(first) => {
            let all = [first].into_iter().chain(known).collect::<Vec<_>>().join(", ");
            Err(format!("{{{text}}} names {wrong}, which are: {all}{}", hint.unwrap_or_default()))
        }
    }
}
