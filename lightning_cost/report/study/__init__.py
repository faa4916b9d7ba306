"""What a study of many trials found, as plain records and as parts of a sweep's page."""
