//! Starts of sign-ins while there is one.

use super::*;

#[test]
fn a_live_sign_in_is_not_replaced_by_another_start() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..Entry::default() };
    let again = Change::Start(pending("two", NOW + 60));
    assert_eq!(apply(&mut entry, again.clone(), NOW + 60), Applied::Stale);
    let ended = NOW + seconds(PENDING_LIFETIME);
    assert_eq!(apply(&mut entry, again, ended), Applied::Done);
    let other = Change::Cancel(Some(State::new("one")));
    assert_eq!(apply(&mut entry, other, ended), Applied::Stale);
    assert_eq!(apply(&mut entry, Change::Cancel(None), ended), Applied::Done);
}

#[test]
fn a_sign_in_takes_the_place_of_the_one_that_it_names_alone() {
    let mut entry = Entry { pending: Some(pending("one", NOW)), ..Entry::default() };
    let replace = |state| Change::Replace { state: State::new(state), pending: pending("two", NOW) };
    assert_eq!(apply(&mut entry, replace("other"), NOW), Applied::Stale);
    assert_eq!(apply(&mut entry, replace("one"), NOW), Applied::Done);
    assert_eq!(entry.pending, Some(pending("two", NOW)));
    assert_eq!(apply(&mut entry, replace("one"), NOW), Applied::Stale);
    assert_eq!(apply(&mut Entry::default(), replace("one"), NOW), Applied::Stale);
}
