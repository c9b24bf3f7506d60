"""Tests of the benchmarks in short form: they run, and the counts stay within bounds."""
