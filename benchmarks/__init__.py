"""How fast the service and the library are, beside the ceilings they are held against: ``make bench``. No tests."""
