"""What came of a sweep: its runs beside each other, in one document and on one page."""
