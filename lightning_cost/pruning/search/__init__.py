"""The search for a global ranking: candidates, how they are judged, and what is remembered."""
