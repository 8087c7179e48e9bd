/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The topology that is used when none is given: two IOMMUs that differ in formats, snoop
 * control, PASIDs, dirty bits and page requests, and eight devices: single ones on both, two
 * functions behind one bridge that share a group, and the host's own disk.
 */

#include "soft/soft.h"

#define MSI                                                                                        \
	"\"reserved\": [{\"start\": \"0xfee00000\", \"last\": \"0xfeefffff\", \"use\": \"msi\"}]"

const char soft_builtin_topology[] =
	"{\n"
	"  \"version\": 1,\n"
	"  \"iommus\": [\n"
	"    {\"name\": \"soft0\",\n"
	"     \"formats\": [\"x86_64-4l\", \"x86_64-5l\", \"vtdss-4l\", \"vtdss-5l\",\n"
	"                 \"ept-4l\", \"ept-5l\"],\n"
	"     \"output_bits\": 48, \"snoop_control\": true, \"pasid_bits\": 20,\n"
	"     \"access_dirty\": true, \"page_requests\": true,\n"
	"     \"iotlb_entries\": 1024,\n"
	"     " MSI "},\n"
	"    {\"name\": \"soft1\",\n"
	"     \"formats\": [\"x86_64-4l\", \"vtdss-3l\", \"vtdss-4l\"],\n"
	"     \"output_bits\": 48, \"snoop_control\": false, \"pasid_bits\": 0,\n"
	"     \"iotlb_entries\": 256,\n"
	"     " MSI "}\n"
	"  ],\n"
	"  \"devices\": [\n"
	"    {\"address\": \"0000:00:1f.2\", \"vendor_device\": \"8086:2922\", \"class\": "
	"\"010601\",\n"
	"     \"iommu\": \"soft1\", \"group\": 1, \"numa_node\": 0, \"host_use\": \"root disk\"},\n"
	"    {\"address\": \"0000:01:00.0\", \"vendor_device\": \"8086:10fb\", \"class\": "
	"\"020000\",\n"
	"     \"iommu\": \"soft0\", \"group\": 10, \"numa_node\": 0},\n"
	"    {\"address\": \"0000:02:00.0\", \"vendor_device\": \"144d:a808\", \"class\": "
	"\"010802\",\n"
	"     \"iommu\": \"soft0\", \"group\": 11, \"numa_node\": 0},\n"
	"    {\"address\": \"0000:03:00.0\", \"vendor_device\": \"10de:2235\", \"class\": "
	"\"030200\",\n"
	"     \"iommu\": \"soft0\", \"group\": 12, \"numa_node\": 0},\n"
	"    {\"address\": \"0000:04:00.0\", \"vendor_device\": \"8086:1521\", \"class\": "
	"\"020000\",\n"
	"     \"iommu\": \"soft0\", \"group\": 13, \"numa_node\": 0},\n"
	"    {\"address\": \"0000:04:00.1\", \"vendor_device\": \"8086:1521\", \"class\": "
	"\"020000\",\n"
	"     \"iommu\": \"soft0\", \"group\": 13, \"numa_node\": 0},\n"
	"    {\"address\": \"0000:81:00.0\", \"vendor_device\": \"15b3:101d\", \"class\": "
	"\"020700\",\n"
	"     \"iommu\": \"soft1\", \"group\": 20, \"numa_node\": 1},\n"
	"    {\"address\": \"0000:82:00.0\", \"vendor_device\": \"1af4:1042\", \"class\": "
	"\"010000\",\n"
	"     \"iommu\": \"soft1\", \"group\": 21, \"numa_node\": 1}\n"
	"  ]\n"
	"}\n";
