dnl SPDX-License-Identifier: Apache-2.0
dnl CHV_BUILD_TIME(RELEASE): defines CHV_TIME_FLOOR, before which no true clock is: the release's Unix time, or a later
dnl SOURCE_DATE_EPOCH, which packagers set.  The same sources give the same program: no clock is asked.
AC_DEFUN([CHV_BUILD_TIME], [
  AC_ARG_VAR([SOURCE_DATE_EPOCH], [Unix time of this build; a clock that shows an earlier one is refused])
  chv_time_floor=$1
  AS_CASE([$SOURCE_DATE_EPOCH],
    [''], [],
    [0*|*[[!0-9]]*|???????????*], [AC_MSG_ERROR([SOURCE_DATE_EPOCH='$SOURCE_DATE_EPOCH' is no Unix time])],
    [AS_IF([test "$SOURCE_DATE_EPOCH" -gt "$chv_time_floor"], [chv_time_floor=$SOURCE_DATE_EPOCH])])
  AC_DEFINE_UNQUOTED([CHV_TIME_FLOOR], [$chv_time_floor], [Unix time before which a clock is certainly wrong])
])
