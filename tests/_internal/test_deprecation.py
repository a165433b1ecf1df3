"""Tests of `bayesgen._internal.deprecation`."""

import pytest

from bayesgen._internal.deprecation import old_task_argument, renamed_arguments, warn_renamed


@renamed_arguments(old="new")
def double(x=0, *, new=0):
    """Twice the sum."""
    return 2 * (x + new)


def test_new_names_do_not_warn():
    assert double(1, new=2) == 6
    assert double.__doc__ == "Twice the sum."


def test_old_names_warn_at_the_caller_and_work():
    with pytest.warns(DeprecationWarning, match=r"double\(old=\) is now double\(new=\)") as said:
        assert double(1, old=2) == 6
    assert said[0].filename == __file__


def test_warning_of_a_new_name_points_at_the_caller_of_the_old():
    def climb():
        warn_renamed("climb", "fit_map")

    with pytest.warns(DeprecationWarning, match="climb is now fit_map") as said:
        climb()
    assert said[0].filename == __file__


def test_methods_with_a_task_accept_its_old_name():
    class Posterior:
        def of(self, *, task=0):
            return task

        def other(self, labelling):
            return labelling

    old_task_argument(Posterior)
    with pytest.warns(DeprecationWarning, match="labelling"):
        assert Posterior().of(labelling=3) == 3
    assert Posterior().of(task=2) == 2
    assert Posterior().other(labelling=4) == 4
