"""Parse what comes in from elsewhere, once, into frozen types with bounds.

A file may come from a stranger, from a broken disk, or from a later version of the program. So
no other room looks into raw JSON, XML or the header of an array: it gets a dataclass whose values
have been checked, or one sentence that says what is wrong::

    bytes ──parse_json──> plain values ──rules──> frozen dataclass      Malformed
            size, depth,                 type, range, length,           "stride must be a whole
            finite numbers,              names that stay inside         number from 1 to 64, not
            real characters                                             'x'"

`rules` has what a value may be, and each other file one kind of document, built of rules.
`tests/untrusted/test_one_room.py` fails where another room parses by itself.
"""
