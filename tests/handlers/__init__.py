"""Tests of the engines, which need neither a database nor Django."""
