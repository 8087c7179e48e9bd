# Builds for arm64 on another Debian machine:
#
#   scripts/install-deps arm64
#   cmake -S . -B build-arm64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchain-arm64.cmake
#
# The compiler, protoc and its plug-in are the machine's; headers and libraries are those of
# the arm64 root that scripts/arm64-root unpacks (IOASID_ARM64_ROOT, a variable of CMake or of
# the environment, names another: "/" where multiarch :arm64 packages are installed).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

# CMake reads this file once more for each of its tests, in another folder.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES IOASID_ARM64_ROOT)
if(NOT IOASID_ARM64_ROOT)
  set(IOASID_ARM64_ROOT "$ENV{IOASID_ARM64_ROOT}")
endif()
if(NOT IOASID_ARM64_ROOT)
  execute_process(COMMAND "${CMAKE_CURRENT_LIST_DIR}/../scripts/arm64-root"
    OUTPUT_VARIABLE IOASID_ARM64_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "no arm64 root to build with (scripts/arm64-root)")
  endif()
endif()
set(IOASID_ARM64_ROOT "${IOASID_ARM64_ROOT}" CACHE PATH "Headers and libraries of arm64" FORCE)

if(NOT IOASID_ARM64_ROOT STREQUAL "/")
  set(CMAKE_SYSROOT "${IOASID_ARM64_ROOT}")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} "${IOASID_ARM64_ROOT}")
  set(root "${IOASID_ARM64_ROOT}")
endif()
set(ENV{PKG_CONFIG_LIBDIR}
  "${root}/usr/lib/aarch64-linux-gnu/pkgconfig:${root}/usr/share/pkgconfig")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
