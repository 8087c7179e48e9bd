# ioasid_unit_test(NAME SOURCES a.c b.c LIBS x y): a cmocka program, run by ctest.
# ioasid_fuzz_target(NAME SOURCES a.c LIBS x): libFuzzer when IOASID_FUZZ is on (clang);
# otherwise a program that replays the files given as arguments, so that the corpus is
# part of every test run.
if(IOASID_TESTS)
  enable_testing()
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

if(IOASID_TESTS AND IOASID_FUZZ)
  # libFuzzer is steered by the coverage of everything that is linked in, not of the target's
  # own file alone.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(IOASID_TESTS)
  add_custom_target(ioasid_fuzz_targets)
endif()

function(ioasid_unit_test name)
  if(NOT IOASID_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${T_LIBS} PkgConfig::CMOCKA)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE IOASID_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # assert() means something in a test, whatever the build type.
  target_compile_options(${name} PRIVATE -UNDEBUG)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

function(ioasid_fuzz_target name)
  if(NOT IOASID_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
  if(IOASID_FUZZ)
    add_executable(${name} ${T_SOURCES})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${T_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_link_libraries(${name} PRIVATE ${T_LIBS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  add_dependencies(ioasid_fuzz_targets ${name})
  if(NOT IOASID_FUZZ)
    add_test(NAME ${name}_corpus COMMAND ${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  endif()
endfunction()
