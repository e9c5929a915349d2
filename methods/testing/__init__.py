"""The conformance kit, for methods in this package and elsewhere. It needs no module of the tests."""
