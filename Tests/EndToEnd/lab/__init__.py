"""A laboratory for Cyrus IMAP 3.6 stores: real instances, stores made fast, changes made as Cyrus makes them, judges."""
