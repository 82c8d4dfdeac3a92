//! A map of bounded size: when it is full, a new entry removes the oldest one.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug)]
pub(super) struct BoundedMap<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    next: u64,
    capacity: usize,
}

impl<K: Ord + Clone, V> BoundedMap<K, V> {
    /// Creates a map of at most `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), by_age: BTreeMap::new(), next: 0, capacity }
    }

    /// Adds an entry as the youngest. Returns the earlier value of this key, else the value of the
    /// oldest entry if that was removed.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.next += 1;
        self.by_age.insert(self.next, key.clone());
        if let Some((age, old)) = self.entries.insert(key, (self.next, value)) {
            self.by_age.remove(&age);
            return Some(old);
        }
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Keeps the entries whose keys fulfil the condition.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| is_kept(key));
        self.by_age.retain(|_, key| is_kept(key));
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_removes_its_oldest_entry_and_a_second_insert_makes_a_key_young() {
        let mut map = BoundedMap::new(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!(map.insert("a", 3), Some(1));
        assert_eq!(map.insert("c", 4), Some(2), "b was the oldest");
        assert_eq!((map.get(&"a"), map.get(&"b"), map.get(&"c")), (Some(&3), None, Some(&4)));
        assert_eq!(map.remove(&"a"), Some(3));
        assert_eq!(map.insert("d", 5), None, "the map had room again");
    }
}
