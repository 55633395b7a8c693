//! A value that one thread replaces and others read without a lock.

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The place of the value. Clones are the same place.
#[derive(Debug)]
pub struct Shared<T>(Arc<Place<T>>);

#[derive(Debug)]
struct Place<T> {
    /// Increases with each value.
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

/// One thread's view. A look costs one atomic load as long as the value is the same.
#[derive(Debug)]
pub struct Reader<T> {
    place: Arc<Place<T>>,
    seen: u64,
    value: Arc<T>,
}

impl<T> Shared<T> {
    /// A place with its first value.
    pub fn new(value: T) -> Shared<T> {
        Shared(Arc::new(Place {
            version: AtomicU64::new(0),
            value: Mutex::new(Arc::new(value)),
        }))
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        let mut place = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        *place = value;
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// The present value.
    pub fn get(&self) -> Arc<T> {
        self.0.current().1
    }

    /// A reader, which has the present value.
    pub fn reader(&self) -> Reader<T> {
        let (seen, value) = self.0.current();
        Reader {
            place: self.0.clone(),
            seen,
            value,
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> Place<T> {
    fn current(&self) -> (u64, Arc<T>) {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version.load(Ordering::Acquire), value.clone())
    }
}

impl<T> Reader<T> {
    /// Takes the present value over.
    pub fn refresh(&mut self) {
        if self.place.version.load(Ordering::Acquire) != self.seen {
            (self.seen, self.value) = self.place.current();
        }
    }
}

impl<T> Deref for Reader<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_has_the_value_of_its_last_refresh() {
        let shared = Shared::new(1);
        let mut reader = shared.reader();
        shared.set(2);
        assert_eq!(*reader, 1);
        reader.refresh();
        assert_eq!((*reader, *shared.get()), (2, 2));
        let (first, second) = (Arc::as_ptr(&reader.value), shared.get());
        reader.refresh();
        assert_eq!(first, Arc::as_ptr(&second));
    }
}
