"""Tests of the admin: all data is visible, changes need a confirmed POST, and every action needs permission."""
