//! What the receiver does with senders, good and bad; over raw sockets, because HTTP clients are too polite.
