//! The open connections of one thread, by a key that is never given twice.

use crate::socket::connection::Connection;
use std::rc::Rc;

/// Names a connection for as long as the thread lives: a place is used again, its generation is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) struct Key {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    connection: Option<Rc<Connection>>,
}

impl Registry {
    /// Makes a connection that is given its own key.
    pub(super) fn insert(&mut self, make: impl FnOnce(Key) -> Rc<Connection>) -> Rc<Connection> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            u32::try_from(self.places.len() - 1).expect("a process has fewer sockets")
        });
        let place = &mut self.places[index as usize];
        let connection = make(Key { index, generation: place.generation });
        place.connection = Some(Rc::clone(&connection));
        connection
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Rc<Connection>> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        let connection = place.connection.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(connection)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Rc<Connection>> {
        self.places.get(key.index as usize).filter(|place| place.generation == key.generation)?.connection.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.places.iter().filter_map(|place| place.connection.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
