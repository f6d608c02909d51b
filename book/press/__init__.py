"""The press: it executes the chapters, judges them and compiles the book."""

import sys

# nbformat imports jsonschema, which would compile a grammar of web addresses: two seconds in each
# process. It does without where that package is missing, and no notebook's check needs it.
sys.modules.setdefault("rfc3987_syntax", None)
