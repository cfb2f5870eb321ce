dnl SPDX-License-Identifier: Apache-2.0
dnl CHV_TRY_FLAG(VARIABLE, FLAG): appends FLAG where the compiler and linker take it.
AC_DEFUN([CHV_TRY_FLAG], [
  chv_saved_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $2 -Werror"
  AC_MSG_CHECKING([whether $CC takes $2])
  AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
    [AC_MSG_RESULT([yes]); $1="$$1 $2"], [AC_MSG_RESULT([no])])
  CFLAGS=$chv_saved_CFLAGS
])

AC_DEFUN([CHV_WARNING_FLAGS], [
  CHV_CFLAGS="-std=gnu11 -fvisibility=hidden"
  for chv_flag in -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
                  -Wformat=2 -Wdate-time -Wvla -Wundef -Wcast-qual -Wwrite-strings -Wimplicit-fallthrough; do
    CHV_TRY_FLAG([CHV_CFLAGS], [$chv_flag])
  done
  AS_IF([test "x$enable_werror" = xyes], [CHV_CFLAGS="$CHV_CFLAGS -Werror"])
  AC_SUBST([CHV_CFLAGS])
])

AC_DEFUN([CHV_HARDENING_FLAGS], [
  CHV_HARDENING=
  CHV_PROGRAM_CFLAGS=
  CHV_PROGRAM_LDFLAGS=
  AS_IF([test "x$with_sanitizer" != xno && test -n "$with_sanitizer"], [
    CHV_HARDENING="-fsanitize=$with_sanitizer -fno-omit-frame-pointer -fno-sanitize-recover=all"
    dnl Instrumented, values are no longer seen through: what these two then say is wrong.
    for chv_flag in -Wno-format-truncation -Wno-maybe-uninitialized; do
      CHV_TRY_FLAG([CHV_HARDENING], [$chv_flag])
    done
    AC_DEFINE([CHV_SANITIZED], [1], [Built with a sanitizer: no seccomp filter, which its runtime does not survive])
  ], [
    dnl FORTIFY needs optimisation; glibc warns without.
    AS_CASE([$CFLAGS], [*-O0*], [], [CHV_HARDENING="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"])
    for chv_flag in -fstack-protector-strong -fstack-clash-protection -fcf-protection; do
      CHV_TRY_FLAG([CHV_HARDENING], [$chv_flag])
    done
  ])
  for chv_flag in -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack; do
    CHV_TRY_FLAG([CHV_PROGRAM_LDFLAGS], [$chv_flag])
  done
  CHV_TRY_FLAG([CHV_PROGRAM_CFLAGS], [-fPIE])
  CHV_TRY_FLAG([CHV_PROGRAM_LDFLAGS], [-pie])
  AC_SUBST([CHV_HARDENING])
  AC_SUBST([CHV_PROGRAM_CFLAGS])
  AC_SUBST([CHV_PROGRAM_LDFLAGS])
])
