"""The space file: read, checked, and expanded into trials. Nothing here schedules, trains or writes."""
