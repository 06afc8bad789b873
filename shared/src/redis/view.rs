//! Which servers are masters now, and whose keys are whose.

use super::address::Node;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The masters as somebody who should know them tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct View {
    pub(super) masters: Vec<Node>,
    pub(super) replicas: Vec<Node>,
    /// Last slot of each range with the index of its master, in order. Empty: one master has every key.
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: usize,
}

impl View {
    pub(super) fn of_one(master: Node) -> Self {
        Self { masters: vec![master], ..Self::default() }
    }

    /// Notes that a master, and its replicas, have the slots from `first` to `last`.
    pub(super) fn add(&mut self, first: u16, last: u16, master: Node, replicas: Vec<Node>) {
        let at = self.masters.iter().position(|known| *known == master).unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        let known = self.ranges.partition_point(|range| range.last < first);
        self.ranges.insert(known, Range { first, last, master: at });
        for replica in replicas {
            if !self.replicas.contains(&replica) {
                self.replicas.push(replica);
            }
        }
    }

    pub(super) fn n_slots(&self) -> usize {
        self.ranges.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
    }

    /// Whether every key is with the same server, so that nobody needs to look at keys.
    pub(super) const fn is_one(&self) -> bool {
        self.ranges.is_empty() && self.masters.len() == 1
    }

    /// Who has a key; `None` while nobody does.
    pub(super) fn master_of(&self, key: &[u8]) -> Option<&Node> {
        if self.is_one() {
            return self.masters.first();
        }
        let slot = slot_of(key);
        let range = self.ranges.get(self.ranges.partition_point(|range| range.last < slot))?;
        self.masters.get(range.master).filter(|_| range.first <= slot)
    }
}

/// CRC16 (XMODEM) of the key, or of what stands between its first braces.
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0).map(|close| &rest[..close])
    });
    let mut crc = 0_u16;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_with_the_master_of_its_slot() {
        let (a, b) = (Node::new("h", 1), Node::new("h", 2));
        let mut view = View::default();
        view.add(5_462, SLOTS - 1, b.clone(), vec![Node::new("h", 4)]);
        view.add(0, 5_460, a.clone(), vec![Node::new("h", 3)]);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(view.master_of(b"foo"), Some(&b));
        assert_eq!(slot_of(b"bar"), 5_061);
        assert_eq!(view.master_of(b"bar"), Some(&a));
        assert_eq!(view.n_slots(), usize::from(SLOTS) - 1);
        assert_eq!(View::default().master_of(b"foo"), None);
        let nobodys = (0..).map(|n| format!("k{n}")).find(|key| slot_of(key.as_bytes()) == 5_461).unwrap();
        assert_eq!(view.master_of(nobodys.as_bytes()), None, "its slot is nobody's");
    }
}
